"""What publishing costs the engine: `bench.py DAEMON` prints microseconds of the engine's threads.

Runs the same Routilux flow in four ways, in turn, for several rounds, and prints medians. The engine's thread is
timed by its own CPU clock, so neither the sender's thread, the daemon, nor waiting between threads counts.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

from routilux import Flow, Routine, Runtime
from routilux.core import FlowRegistry

import luxcast.routilux
from luxcast import Publisher

PIECES = 2_000
"""Pieces that a job sends on."""
EVENTS = 4
"""Events of each piece: an `event_emit`, a `slot_call`, and start and end of the routine that takes it."""
ROUNDS = 7
CALLS = 20_000


def _when_there_is_data(slots: dict[str, Any], worker_state: Any) -> tuple[bool, dict[str, list[Any]], None]:
    data = {name: slot.consume_all_new() for name, slot in slots.items()}
    return any(data.values()), data, None


class _Source(Routine):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.add_slot("input")
        self.add_event("output")
        self.set_activation_policy(_when_there_is_data)
        self.set_logic(self._work)

    def _work(self, pieces: list[Any], policy_message: object, worker_state: Any) -> None:
        for n in range(PIECES):
            self.emit("output", worker_state=worker_state, n=n, text="a piece of work", values=[1.5, 2, None])


class _Sink(Routine):  # type: ignore[misc]
    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self._done = done
        self.seconds = 0.0
        self.add_slot("input", max_queue_length=2 * PIECES)
        self.set_activation_policy(_when_there_is_data)
        self.set_logic(self._work)

    def _work(self, pieces: list[Any], policy_message: object, worker_state: Any) -> None:
        """Runs in the thread that routes events and calls the hooks: its clock shows what all of that took."""
        for piece in pieces:
            if piece["n"] == 0:
                self._began = time.thread_time()
            if piece["n"] == PIECES - 1:
                self.seconds = time.thread_time() - self._began
                self._done.set()


def run_flow(name: str) -> float:
    """Seconds of the routing thread for one job."""
    done = threading.Event()
    flow, sink = Flow(name), _Sink(done)
    flow.add_routine(_Source(), "source")
    flow.add_routine(sink, "sink")
    flow.connect("source", "output", "sink", "input")
    FlowRegistry.get_instance().register_by_name(name, flow)
    runtime = Runtime(thread_pool_size=2)
    runtime.post(name, "source", "input", {})
    assert done.wait(60)
    runtime.shutdown()
    return sink.seconds


def time_publish(publisher: Publisher) -> float:
    """Seconds of the calling thread for CALLS calls of `publish`, at a pace that the sender can keep."""
    event = {"type": "execution_event", "job_id": "job-1", "flow_id": "flow-1", "timestamp": "2026-01-01T00:00:00.000Z"}
    seconds = 0.0
    for _ in range(CALLS // 100):
        began = time.thread_time()
        for n in range(100):
            publisher.publish({**event, "event": {"event_id": n, "routine_id": "r", "data": {"n": n, "text": "a piece"}}})
        seconds += time.thread_time() - began
        time.sleep(0.001)
    return seconds


@contextmanager
def daemon(program: str, path: str) -> Iterator[None]:
    command = [program, "serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest", path, "--log-level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ingest"):
            break
    try:
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        there, away = os.path.join(directory, "there"), os.path.join(directory, "away")
        with daemon(sys.argv[1], there):
            flows: dict[str, list[float]] = {"no hooks": [], "daemon there": [], "daemon away": [], "disabled": []}
            calls: dict[str, list[float]] = {"daemon there": [], "daemon away": [], "disabled": []}
            for round_ in range(ROUNDS):
                for way, seconds in flows.items():
                    os.environ["LUXCAST_DISABLED"] = "1" if way == "disabled" else "0"
                    path = away if way == "daemon away" else there
                    if way != "no hooks":
                        luxcast.routilux.install(path=path)
                    seconds.append(run_flow(f"{way}-{round_}".replace(" ", "-")))
                    luxcast.routilux.uninstall(1.0)
                    if way in calls:
                        publisher = Publisher(path)
                        calls[way].append(time_publish(publisher))
                        publisher.close(1.0)
    plain = statistics.median(flows["no hooks"])
    seen = [way for way in flows if way.startswith("daemon")]
    figures = {
        "flow, us of the routing thread a piece": {
            way: round(statistics.median(seconds) / PIECES * 1e6, 2) for way, seconds in flows.items()
        },
        "flow, us more for each event": {
            way: round((statistics.median(flows[way]) - plain) / PIECES / EVENTS * 1e6, 2) for way in seen
        },
        "flow, times the flow without hooks": {
            way: round(statistics.median(seconds) / plain, 2) for way, seconds in flows.items()
        },
        "publish, us a call": {way: round(statistics.median(took) / CALLS * 1e6, 2) for way, took in calls.items()},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
