"""Forks and the end of a process, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fake import FakeDaemon
from waiting import PATIENCE


def _run(code: str, path: str, warnings: str = "error", **variables: str) -> str:
    process = subprocess.run(
        [sys.executable, "-W", warnings, "-c", textwrap.dedent(code)],
        env={**os.environ, "LUXCAST_INGEST": path, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


_BEGIN = """
import logging, os, sys, threading, time
from luxcast import Publisher
def event(n): return {"type": "t", "job_id": "j", "n": n}
publisher = Publisher(exit_seconds=10)
"""


def test_what_waits_is_sent_at_exit(fake: FakeDaemon) -> None:
    _run(_BEGIN + "for n in range(1000): publisher.publish(event(n))", fake.path)
    assert fake.numbers() == list(range(1000))


def test_the_exit_does_not_wait_for_a_daemon_that_is_not_there(socket_path: str) -> None:
    began = time.monotonic()
    _run(
        """
        import logging
        logging.getLogger("luxcast").disabled = True
        from luxcast import Publisher
        Publisher(exit_seconds=0.2).publish({"type": "t", "job_id": "j"})
        """,
        socket_path,
    )
    assert time.monotonic() - began < 15


def test_a_fork_sends_its_own_events_and_none_of_its_parent(fake: FakeDaemon) -> None:
    fake.may_read.clear()
    fake_path = fake.path
    code = (
        _BEGIN
        + """
for n in range(500): publisher.publish(event(n))
child = os.fork()
if child == 0:
    assert publisher.stats().published == 0
    for n in range(1000, 1500): publisher.publish(event(n))
    is_done = publisher.close(20)
    os._exit(0 if is_done else 1)
for n in range(500, 600): publisher.publish(event(n))
print("forked", flush=True)
assert os.waitpid(child, 0)[1] == 0
assert publisher.close(20)
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "LUXCAST_INGEST": fake_path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "forked\n"
    fake.may_read.set()
    assert process.wait(PATIENCE) == 0
    process.stdout.close()
    numbers = fake.numbers()
    assert [n for n in numbers if n < 1000] == list(range(600))
    assert [n for n in numbers if n >= 1000] == list(range(1000, 1500))
    assert len(numbers) == 1100 and len(set(fake.names)) == 2


def test_forks_from_busy_threads_never_hang(fake: FakeDaemon) -> None:
    code = (
        _BEGIN
        + """
is_over = False
def work(base):
    n = base
    while not is_over:
        publisher.publish(event(n)); n += 1
        if n % 100 == 0: time.sleep(0.001)
        while publisher.stats().waiting > 50_000 and not is_over: time.sleep(0.01)
threads = [threading.Thread(target=work, args=(base * 10**9,)) for base in range(1, 5)]
for thread in threads: thread.start()
for round in range(30):
    child = os.fork()
    if child == 0:
        publisher.publish(event(round))
        os._exit(0 if publisher.close(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
is_over = True
for thread in threads: thread.join()
"""
    )
    _run(code, fake.path)
    children = sorted(n for n in fake.numbers() if n < 10**9)
    assert children == list(range(30)), "each child's event came once"
    for base in range(1, 5):
        own = [n for n in fake.numbers() if n // 10**9 == base]
        assert own == sorted(set(own)), "the parent's came once and in order"


def test_a_child_closes_its_copy_of_the_parents_connection(fake: FakeDaemon) -> None:
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
    _run(code, fake.path)
    assert fake.numbers() == [0, 1] and len(fake.names) == 1


def test_a_signal_handler_may_publish(fake: FakeDaemon) -> None:
    code = (
        _BEGIN
        + """
import signal
def handle(number, frame): publisher.publish(event(-1))
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
until = time.monotonic() + 1
while time.monotonic() < until: publisher.publish(event(0))
signal.setitimer(signal.ITIMER_REAL, 0)
assert publisher.close(20)
stats = publisher.stats()
assert stats.published == stats.delivered + stats.dropped and stats.faults == 0, stats
"""
    )
    _run(code, fake.path)
    assert fake.numbers().count(-1) > 0


def test_disabled_a_process_ends_at_once(fake: FakeDaemon) -> None:
    _run(_BEGIN + "assert not publisher.publish(event(0))", fake.path, LUXCAST_DISABLED="1")
    assert fake.names == []


_CHILDREN = """
import multiprocessing, multiprocessing.util, os, sys, time
from luxcast import Publisher
def event(n): return {"type": "t", "job_id": "j", "n": n}
publisher = Publisher(exit_seconds=10)
def work(first):
    multiprocessing.util.Finalize(None, publisher.publish, args=(event(first + 500),), exitpriority=0)
    for n in range(first, first + 500): publisher.publish(event(n))
def fail(first):
    work(first)
    raise SystemExit(3)
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    publisher.publish(event(0))
    children = [context.Process(target=target, args=(first,)) for target, first in ((work, 1000), (fail, 2000))]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 3]
    publisher.publish(event(1))
    with context.Pool(1) as pool:
        pool.apply(work, (3000,))
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_child_of_multiprocessing_published_is_sent_at_its_end(
    fake: FakeDaemon, method: str, tmp_path: Path
) -> None:
    program = tmp_path / "children.py"
    program.write_text(_CHILDREN)
    process = subprocess.run(
        [sys.executable, "-W", "error", str(program), method],
        env={**os.environ, "LUXCAST_INGEST": fake.path},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert (process.returncode, process.stderr) == (0, "")
    numbers = fake.numbers()
    assert [n for n in numbers if n < 1000] == [0, 1]
    for first in (1000, 2000, 3000):
        assert [n for n in numbers if first <= n < first + 1000] == list(range(first, first + 501))


_GREEN = """
import threading, time
before = threading.get_ident()
from luxcast import Publisher
def event(n): return {"type": "t", "job_id": "j", "n": n}
publisher = Publisher(exit_seconds=10)
ticks = []
def tick():
    while len(ticks) < 10**6:
        ticks.append(time.monotonic())
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
for n in range(1000):
    assert publisher.publish(event(n))
    if n % 100 == 0: time.sleep(0.01)
until = time.monotonic() + 20
while publisher.stats().waiting and time.monotonic() < until: time.sleep(0.01)
time.sleep(0.5)
stats = publisher.stats()
assert (stats.delivered, stats.sender_faults, stats.faults) == (1000, 0, 0), stats
assert max(b - a for a, b in zip(ticks, ticks[1:])) < 5, "the sender kept the others from running"
publisher.publish(event(1000))
assert publisher.close(20)
"""


@pytest.mark.parametrize(
    "patch",
    [
        "import gevent.monkey; gevent.monkey.patch_all()",
        "import eventlet; eventlet.monkey_patch()",
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_it_sends_where_the_standard_library_was_made_green(fake: FakeDaemon, patch: str, is_first: bool) -> None:
    code = f"{patch}\n{_GREEN}" if is_first else f"import luxcast\n{patch}\n{_GREEN}"
    _run(code, fake.path, warnings="ignore")
    assert fake.numbers() == list(range(1001))


def _without(*names: str) -> str:
    return f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}: raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import luxcast.routilux
try:
    luxcast.routilux.install()
    print("installed")
except ImportError as error:
    print(type(error).__name__, error.name, error)
luxcast.routilux.uninstall()
"""


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("routilux", "ImportError routilux luxcast.routilux.install() needs Routilux, which cannot be imported here: pip"),
        ("routilux.core.hooks", "ImportError routilux.core.hooks luxcast.routilux.install() does not support this Routilux"),
        ("routilux.core.executor", "ImportError routilux.core.executor luxcast.routilux.install() does not support this"),
    ],
)
def test_without_the_engine_install_says_what_is_missing(socket_path: str, missing: str, words: str) -> None:
    # Routilux itself, where it is there, has warnings of its own.
    assert _run(_without(missing), socket_path, warnings="ignore").startswith(words)
    assert _run(_without(missing), socket_path, warnings="ignore", LUXCAST_DISABLED="1") == "installed\n"
