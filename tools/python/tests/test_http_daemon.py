"""The publisher over HTTP beside the real daemon: rights, restarts, and connections that are cut at every place."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from daemon import Daemon
from fake_http import Relay
from luxcast import Publisher, Stats
from waiting import PATIENCE, wait_until

_OPEN = ("--http-publish", "anyone")


@pytest.fixture(scope="module")
def corpus() -> list[dict[str, Any]]:
    """Events of real Routilux runs."""
    text = (Path(__file__).parents[3] / "tests/fixtures/events.ndjson").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _event(n: int, **members: object) -> dict[str, Any]:
    return {"type": "execution_event", "job_id": "j", "flow_id": "f", "n": n, **members}


def _numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["n"] for event in events]


def _published(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As they were before the daemon numbered them."""
    return [{name: value for name, value in event.items() if name != "stream_seq"} for event in events]


def _port(daemon: Daemon) -> int:
    return int(daemon.address.rpartition(":")[2])


def test_watchers_get_what_was_published(daemon: Daemon) -> None:
    with Publisher(daemon.address) as publisher, daemon.watch("jobs/j/monitor") as watcher:
        for n in range(3_000):
            publisher.publish(_event(n))
        assert _numbers(watcher.wait_for(3_000)) == list(range(3_000))
        assert publisher.flush(PATIENCE)
        assert publisher.stats() == Stats(published=3_000, delivered=3_000, connections=1)


def test_refusals_are_counted_however_many_come_at_once(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    with Publisher(daemon.address) as publisher:
        publisher.publish({"type": "t", "job_id": "etl/7"})
        assert publisher.flush(PATIENCE), "nothing of the request was accepted"
        for n in range(3_000):
            publisher.publish({"type": "t", "job_id": "etl/7" if n % 3 else "j", "n": n})
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.refused, stats.presumed) == (1_000, 2_001, 0)
    assert "refused by the daemon, for: bad_id: job_id and flow_id must be" in caplog.text


def test_a_line_that_is_too_long_for_the_daemon_harms_no_other(socket_path: str) -> None:
    with Daemon(socket_path, *_OPEN, "--line-bytes-max", "20000") as daemon, Publisher(daemon.address) as publisher:
        for n in range(100):
            publisher.publish(_event(n, text="x" * (50_000 if n == 50 else 100)))
        assert publisher.flush(PATIENCE)
        assert (publisher.stats().delivered, publisher.stats().refused) == (99, 1)


def test_a_token_says_what_may_be_published(
    socket_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("every publish\nsome publish=j,b*\nwatcher all\n")
    with Daemon(socket_path, "--token-file", str(tokens)) as daemon:
        with Publisher(daemon.address, token="every") as publisher:
            publisher.publish(_event(0))
            assert publisher.flush(PATIENCE)
        with Publisher(daemon.address, token="some") as publisher:
            publisher.publish({"type": "t", "job_id": "other"})
            publisher.publish({"type": "t", "job_id": "j"})
            assert publisher.flush(PATIENCE)
            assert (publisher.stats().delivered, publisher.stats().refused) == (1, 1)
        assert "1 event refused by the daemon, for: forbidden: " in caplog.text
        for token, words in (("", "401 unauthorized: "), ("secret", "401 unauthorized: "), ("watcher", "403 forbidden_scope: ")):
            caplog.clear()
            with Publisher(daemon.address, token=token, exit_seconds=0) as publisher:
                publisher.publish(_event(1))
                wait_until(lambda: f"will try again: {words}" in caplog.text, "the log tells")
            assert "secret" not in caplog.text


def test_a_daemon_that_takes_nothing_over_http_says_so(
    socket_path: str, caplog: pytest.LogCaptureFixture
) -> None:
    for flags, words in (((), "401 unauthorized: publishing needs a token"), (("--http-publish", "off"), "404 not_found: ")):
        caplog.clear()
        with Daemon(socket_path, *flags) as daemon, Publisher(daemon.address, exit_seconds=0) as publisher:
            publisher.publish(_event(1))
            wait_until(lambda: words in caplog.text, "the log tells")


def test_the_corpus_arrives_once_and_in_order_through_restarts(
    socket_path: str, tmp_path: Path, corpus: list[dict[str, Any]]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with Daemon(socket_path, *_OPEN, "--state-dir", str(state)) as daemon, Relay(_port(daemon)) as relay:
        publisher = Publisher(relay.url, retry_seconds_max=0.2)
        for place, event in enumerate(corpus):
            assert publisher.publish(event)
            if place in (len(corpus) // 3, 2 * len(corpus) // 3):
                wait_until(lambda: publisher.stats().delivered > 0, "some arrived")
                daemon.stop()
                daemon.start()
                relay.to = _port(daemon)
        assert publisher.close(PATIENCE)
        assert publisher.stats().delivered == len(corpus)
        with daemon.watch("events") as watcher:
            assert _published(watcher.wait_for(len(corpus))) == corpus
            assert watcher.gaps == []


@pytest.mark.parametrize("plan", ["before", "within", "behind", "answer", "any"])
def test_the_corpus_arrives_once_and_in_order_through_cuts(
    daemon: Daemon, corpus: list[dict[str, Any]], plan: str
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    choice = random.Random(seed)
    with Relay(_port(daemon)) as relay:
        for _ in range(8):
            # The next connection is whole, or no request would ever get through.
            relay.plans.extend([choice.choice(["before", "within", "behind", "answer"]) if plan == "any" else plan, ""])
        publisher = Publisher(relay.url, retry_seconds_max=0.05)
        for place, event in enumerate(corpus):
            assert publisher.publish(event)
            if place % 500 == 0:
                assert publisher.flush(PATIENCE)
                # The next batch needs another connection.
                relay.hang_up()
        assert publisher.close(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.refused, stats.dropped) == (len(corpus), 0, 0)
        assert len(relay.cuts) == 8
        if plan == "answer":
            assert stats.presumed > 0
        with daemon.watch("events") as watcher:
            assert _published(watcher.wait_for(len(corpus))) == corpus


def test_after_a_kill_the_next_daemon_gets_each_event_that_was_not_acknowledged_once(daemon: Daemon) -> None:
    with Relay(_port(daemon)) as relay, Publisher(relay.url, retry_seconds_max=0.2) as publisher:
        for round_ in range(3):
            with daemon.watch("jobs/j/monitor", since="now") as watcher:
                for n in range(round_ * 2000, round_ * 2000 + 1000):
                    publisher.publish(_event(n))
                watcher.wait_for(1)
                daemon.kill()
            for n in range(round_ * 2000 + 1000, round_ * 2000 + 2000):
                publisher.publish(_event(n))
            seen = _numbers(watcher.events)
            assert seen == sorted(set(seen)), "none came twice or in another order"
            daemon.start()
            relay.to = _port(daemon)
            assert publisher.flush(PATIENCE)
            with daemon.watch("jobs/j/monitor") as watcher:
                last = round_ * 2000 + 1999
                wait_until(lambda: last in _numbers(watcher.events), "the last one arrived")
                first = _numbers(watcher.events)[0]
                assert _numbers(watcher.events) == list(range(first, last + 1)), "a hole, or one came twice"
                assert first <= round_ * 2000 + 1000, "what was published meanwhile is there"
        assert publisher.stats().delivered == 6000
