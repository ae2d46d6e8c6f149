"""Forks, the end of a process and green threads while the publisher speaks HTTP, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fake_http import FakeHttp
from test_process import _BEGIN, _CHILDREN, _GREEN, _run
from waiting import PATIENCE


def test_what_waits_is_sent_at_exit(web: FakeHttp) -> None:
    _run(_BEGIN + "for n in range(3000): publisher.publish(event(n))", "", LUXCAST_URL=web.url)
    assert web.numbers() == list(range(3000))


def test_the_exit_does_not_wait_for_a_daemon_that_does_not_answer(web: FakeHttp) -> None:
    web.may_read.clear()
    began = time.monotonic()
    code = """
    import logging
    logging.getLogger("luxcast").disabled = True
    from luxcast import Publisher
    Publisher(exit_seconds=0.2).publish({"type": "t", "job_id": "j"})
    """
    _run(code, "", LUXCAST_URL=web.url)
    assert time.monotonic() - began < 15


def test_a_fork_within_a_request_sends_its_own_events_and_none_of_its_parent(web: FakeHttp) -> None:
    web.may_read.clear()
    code = (
        _BEGIN
        + """
for n in range(500): publisher.publish(event(n))
print("sent", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    assert publisher.stats().published == 0
    for n in range(1000, 1500): publisher.publish(event(n))
    os._exit(0 if publisher.close(20) else 1)
for n in range(500, 600): publisher.publish(event(n))
print("forked", flush=True)
assert os.waitpid(child, 0)[1] == 0
assert publisher.close(20)
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env={"LUXCAST_URL": web.url, "PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "sent\n"
    until = time.monotonic() + PATIENCE
    while web.connections == 0 and time.monotonic() < until:
        time.sleep(0.01)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "forked\n"
    web.may_read.set()
    assert process.wait(PATIENCE) == 0
    process.stdin.close()
    process.stdout.close()
    numbers = web.numbers()
    assert [n for n in numbers if n < 1000] == list(range(600))
    assert [n for n in numbers if n >= 1000] == list(range(1000, 1500))
    assert len(numbers) == 1100 and len(web.accepted) == 2


def test_a_child_closes_its_copy_of_the_parents_connection(web: FakeHttp) -> None:
    code = (
        _BEGIN
        + """
publisher.publish(event(0))
assert publisher.flush(20)
before = len(os.listdir("/proc/self/fd"))
child = os.fork()
if child == 0:
    # The two ends of the bell are new ones, the connection is gone.
    os._exit(0 if len(os.listdir("/proc/self/fd")) == before - 1 else 1)
assert os.waitpid(child, 0)[1] == 0
publisher.publish(event(1))
assert publisher.close(20)
"""
    )
    _run(code, "", LUXCAST_URL=web.url)
    assert web.numbers() == [0, 1] and web.connections == 1, "the parent's is left alone"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_child_of_multiprocessing_published_is_sent_at_its_end(
    web: FakeHttp, method: str, tmp_path: Path
) -> None:
    program = tmp_path / "children.py"
    program.write_text(_CHILDREN)
    process = subprocess.run(
        [sys.executable, "-W", "error", str(program), method],
        env={"LUXCAST_URL": web.url, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert (process.returncode, process.stderr) == (0, "")
    numbers = web.numbers()
    assert [n for n in numbers if n < 1000] == [0, 1]
    for first in (1000, 2000, 3000):
        assert [n for n in numbers if first <= n < first + 1000] == list(range(first, first + 501))


@pytest.mark.parametrize(
    "patch",
    [
        "import gevent.monkey; gevent.monkey.patch_all()",
        "import eventlet; eventlet.monkey_patch()",
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("is_secure", [True, False])
def test_it_sends_where_the_standard_library_was_made_green(
    web: FakeHttp, secure: FakeHttp, certificate: Path, patch: str, is_first: bool, is_secure: bool
) -> None:
    green = _GREEN
    if is_secure:
        green = green.replace("Publisher(", f"Publisher('https://localhost:{secure.port}', ca={f'{certificate}.crt'!r}, ")
    code = f"{patch}\n{green}" if is_first else f"import luxcast\n{patch}\n{green}"
    _run(code, "", warnings="ignore", LUXCAST_URL=web.url)
    assert (secure if is_secure else web).numbers() == list(range(1001))


def test_without_a_url_nothing_of_http_is_imported() -> None:
    assert _run("import sys, luxcast; luxcast.Publisher(); print('ssl' in sys.modules)", "/nowhere") == "False\n"
