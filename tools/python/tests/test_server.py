"""Routilux's own server, as `routilux server start` runs it, with the two lines in a module of routines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon import Daemon
from waiting import PATIENCE, wait_until

_ROUTINES = '''
import luxcast.routilux
luxcast.routilux.install()

from routilux import Routine
from routilux.cli.decorators import auto_register_routine


def when_there_is_data(slots, worker_state):
    data = {name: slot.consume_all_new() for name, slot in slots.items()}
    return any(data.values()), data, None


@auto_register_routine(name="step")
class Step(Routine):
    def __init__(self):
        super().__init__()
        self.add_slot("input")
        self.add_event("output")
        self.set_activation_policy(when_there_is_data)
        self.set_logic(self.work)

    def work(self, pieces, policy_message, worker_state):
        for piece in pieces:
            self.emit("output", worker_state=worker_state, n=piece["n"] + 1)
'''

_FLOW = """
flow_id: chain
routines:
  first: {class: step}
  second: {class: step}
  third: {class: step}
  fourth: {class: step}
connections:
  - {from: first.output, to: second.input}
  - {from: second.output, to: third.input}
  - {from: third.output, to: fourth.input}
"""


@contextmanager
def _server(directory: Path, ingest: str) -> Iterator[str]:
    """Its address, when it answers."""
    for name, file, text in (("routines", "steps.py", _ROUTINES), ("flows", "chain.yaml", _FLOW)):
        (directory / name).mkdir()
        (directory / name / file).write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "routilux.cli.main", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--routines-dir", str(directory / "routines"), "--flows-dir", str(directory / "flows")]
    environment = {**os.environ, "LUXCAST_INGEST": ingest, "ROUTILUX_API_KEY_ENABLED": "false"}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/api/v1"
        wait_until(lambda: _answers(f"{address}/health/live", process), "the server answers")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server has ended"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_a_job_that_was_posted_to_the_server_is_seen_from_its_start_to_its_end(daemon: Daemon, tmp_path: Path) -> None:
    job = {"flow_id": "chain", "routine_id": "first", "slot_name": "input", "data": {"n": 1}}
    with _server(tmp_path, daemon.path) as address, daemon.watch("flows/chain/monitor") as watcher:
        job_id = _post(f"{address}/jobs", job)["job_id"]
        wait_until(lambda: any(event["type"] == "job_completed" for event in watcher.events), "the job has ended")
        told = [(event["type"], event.get("routine_id")) for event in watcher.events]
        told = [(kind, routine) for kind, routine in told if kind != "execution_event"]
        spans = [
            (kind, routine)
            for routine in ("first", "second", "third", "fourth")
            for kind in ("routine_started", "routine_completed")
        ]
        # The first one runs in a thread of its own: the second may begin before its end is told.
        assert told[0] == ("job_started", None) and told[-1] == ("job_completed", None)
        assert sorted(told[1:-1]) == sorted(spans)
        assert {event["job_id"] for event in watcher.events} == {job_id}
        second = _post(f"{address}/jobs", job)["job_id"]
        _post(f"{address}/jobs/{second}/fail", {"error": "somebody said so"})
        wait_until(lambda: any(event["type"] == "job_failed" for event in watcher.events), "the other one has failed")
        (failed,) = [event for event in watcher.events if event["type"] == "job_failed"]
        assert (failed["job_id"], failed["data"]["error"]) == (second, "somebody said so")
