"""The publisher over HTTP beside a fake daemon: what it sends, and what it makes of every answer."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import ssl
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import luxcast.http_sender
import luxcast.poster
from fake_http import Behaviour, FakeHttp, Request, answer, raw
from luxcast import Publisher, Stats
from luxcast.address import Address, read
from luxcast.flight import Batch
from luxcast.http_sender import BATCH_LINES_MAX, HttpSender
from luxcast.sender import BATCH_BYTES_MAX
from publishing import an_event, assert_all_counted, publishing
from waiting import PATIENCE, wait_until


def test_events_arrive_once_and_in_order_over_one_connection(web: FakeHttp) -> None:
    with publishing(f"{web.url}/luxcast/", token="s3cret", name="ci") as publisher:
        for n in range(5_000):
            assert publisher.publish(an_event(n))
        assert publisher.flush(PATIENCE)
        assert publisher.path == f"{web.url}/luxcast"
        assert publisher.stats() == Stats(published=5_000, delivered=5_000, connections=1)
    assert web.numbers() == list(range(5_000))
    line = 1
    for request in web.requests:
        assert (request.method, request.target) == ("POST", "/luxcast/api/v1/events")
        assert 0 < len(request.body) <= BATCH_BYTES_MAX + 1_000 and len(request.lines) <= BATCH_LINES_MAX
        assert request.fields["host"] == web.url[len("http://") :]
        assert request.fields["content-type"] == "application/x-ndjson"
        assert request.fields["authorization"] == "Bearer s3cret"
        assert re.fullmatch("ci-[0-9a-f]{32}", request.fields["luxcast-publisher"])
        assert request.fields["luxcast-line"] == str(line)
        line += len(request.lines)
    assert web.connections == 1


def test_a_lone_event_goes_out_at_once(web: FakeHttp) -> None:
    with publishing(web.url, linger_seconds=PATIENCE) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE / 2), "it waited for others"
        assert [len(request.lines) for request in web.requests] == [1]


def test_requests_are_bounded(web: FakeHttp) -> None:
    web.may_read.clear()
    with publishing(web.url) as publisher:
        for n in range(3_000):
            publisher.publish(an_event(n))
        for n in range(3_000, 3_010):
            publisher.publish(an_event(n, text="x" * 100_000))
        publisher.publish(an_event(3_010, text="x" * 900_000))
        web.may_read.set()
        assert publisher.flush(PATIENCE)
    assert web.numbers() == list(range(3_011))
    assert max(len(request.lines) for request in web.requests) <= BATCH_LINES_MAX
    assert all(len(request.lines) == 1 for request in web.requests if len(request.body) > 2 * BATCH_BYTES_MAX)


def test_a_daemon_that_does_not_read_never_makes_the_caller_wait(web: FakeHttp) -> None:
    web.may_read.clear()
    with publishing(web.url, bytes_max=2_000_000) as publisher:
        longest = 0.0
        for n in range(20_000):
            began = time.monotonic()
            publisher.publish(an_event(n, text="x" * 1000))
            longest = max(longest, time.monotonic() - began)
        stats = publisher.stats()
        assert stats.waiting_bytes <= 2_000_000 and stats.dropped_execution_events > 10_000
        assert longest < 5.0, "an engine thread waited for the daemon"
        web.may_read.set()
        assert publisher.flush(PATIENCE)
        assert_all_counted(publisher.stats())
    numbers = web.numbers()
    assert numbers == sorted(set(numbers)) and numbers[-1] == 19_999


@pytest.mark.parametrize("forgets", [False, True])
def test_a_daemon_that_comes_back_gets_what_it_has_not(web: FakeHttp, forgets: bool) -> None:
    with publishing(web.url) as publisher:
        for round_ in range(4):
            for n in range(1000):
                publisher.publish(an_event(1000 * round_ + n))
            wait_until(lambda: publisher.stats().delivered > 1000 * round_, "some events arrived")
            web.go_away(forgets)
            web.listen()
        assert publisher.flush(PATIENCE)
    assert sorted(set(web.numbers())) == list(range(4000)), "some were lost"
    assert forgets or web.numbers() == list(range(4000)), "some came twice or in another order"


def test_what_was_accepted_without_an_answer_is_not_sent_twice(web: FakeHttp) -> None:
    def lost(fake: FakeHttp, request: Request) -> bytes:
        fake.take(request)
        return b""

    web.script.append(lost)
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        wait_until(lambda: len(web.requests) > 0, "it came")
        publisher.publish(an_event(1))
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.presumed) == (2, 1)
    assert web.numbers() == [0, 1]
    asked = web.requests[1]
    assert (asked.body, asked.fields.get("luxcast-line")) == (b"", None), "it asks first"


@pytest.mark.parametrize(("named", "kept"), [(64, True), (0, True), (64, False)])
def test_refused_lines_are_counted_and_told(
    web: FakeHttp, named: int, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    web.refuses.add("bad")
    web.refused_max = named
    web.closes_behind_answers = not kept
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0, "bad"))
        assert publisher.flush(PATIENCE), "422 is an answer like 200"
        for n in range(2_000):
            publisher.publish(an_event(n, "bad" if n % 10 else "good"))
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.refused, stats.presumed) == (200, 1801, 0)
        assert_all_counted(stats)
    wait_until(lambda: "refused by the daemon" in caplog.text, "the log tells")
    assert ("bad_type: told to" in caplog.text) == (named > 0)
    assert "cannot publish" not in caplog.text


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 405, 415, 421])
def test_an_answer_that_stays_the_same_is_told_once_and_asked_for_seldom(
    web: FakeHttp, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"error": "some_word", "message": "what is wrong, said to s3cret"}
    web.always = answer(status, body, Location="https://elsewhere.example/x")
    with publishing(web.url, token="s3cret") as publisher:
        for n in range(10):
            publisher.publish(an_event(n))
        assert not publisher.flush(1.2)
        assert 1 <= len(web.requests) <= 4, "no reason to spin"
        told = [record.getMessage() for record in caplog.records if "cannot publish" in record.getMessage()]
        if status < 400:
            assert told[0].endswith(
                f"{status} it redirects to another address https://elsewhere.example/x, which is not followed: give "
                "the address itself"
            )
        else:
            assert told[0].endswith(f"{status} some_word: what is wrong, said to ...")
        assert len(told) == 1
        web.always = None
        assert publisher.flush(PATIENCE)
        assert_all_counted(publisher.stats())
    assert web.numbers() == list(range(10))
    assert "s3cret" not in caplog.text


def test_each_kind_of_failure_is_told_once(web: FakeHttp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "luxcast")
    for _ in range(2):
        web.script.extend([answer(502), answer(500), answer(502)])
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
        assert [record.getMessage().split(": ")[-1][:3] for record in caplog.records[:-1]] == ["502", "500"]
        assert caplog.records[-1].getMessage() == f"publishing to the daemon at {web.url}"



@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("kind", ["seconds", "date", "nonsense"])
def test_it_waits_as_long_as_it_is_asked_to(web: FakeHttp, status: int, kind: str) -> None:
    until = time.time() + 3
    fields = {"seconds": "1", "date": formatdate(until, usegmt=True), "nonsense": "soon"}
    web.script.append(answer(status, {"error": "draining", "message": "later"}, Retry_After=fields[kind]))
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        assert publisher.close(PATIENCE), "also while it closes"
    assert web.numbers() == [0]
    pause = web.requests[1].at - web.requests[0].at
    if kind == "seconds":
        assert pause >= 1
    if kind == "date":
        assert time.time() >= until - 1.1, "dates have whole seconds"


def test_a_body_too_large_for_a_proxy_comes_in_parts_and_a_line_too_large_is_given_up(
    web: FakeHttp, caplog: pytest.LogCaptureFixture
) -> None:
    def limited(fake: FakeHttp, request: Request) -> bytes:
        return answer(413, "<html>")(fake, request) if len(request.body) > 5_000 else fake.take(request)

    web.always = limited
    with publishing(web.url) as publisher:
        for n in range(300):
            publisher.publish(an_event(n, text="x" * (8_000 if n == 150 else 100)))
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.refused) == (299, 1)
        assert_all_counted(stats)
    assert web.numbers() == [n for n in range(300) if n != 150]
    assert "1 event refused by the daemon, for: 413 an answer that is not the daemon's" in caplog.text
    assert len(web.requests) < 60


def _wrong(**members: object) -> Behaviour:
    receipt = {"accepted": 1, "refused": [], "refused_total": 0, "stream_seq": 1, "accepted_line": 1, **members}
    return answer(200, receipt)


def _endless(piece: bytes, first: bytes = b"HTTP/1.1 200 OK\r\n") -> Behaviour:
    return raw(first + piece * (3_000_000 // len(piece)))


_HOSTILE: dict[str, Behaviour] = {
    "nothing": raw(b""),
    "garbage": raw(b"\x00\xff SSH-2.0 hello\r\n" * 3),
    "no JSON": answer(200, "<html>welcome</html>"),
    "JSON of another kind": answer(200, [1, 2]),
    "deep JSON": answer(200, "[" * 200_000),
    "a number too long": answer(200, '{"accepted":' + "9" * 5_000 + "}"),
    "too many accepted": _wrong(accepted=2),
    "too few accepted": _wrong(accepted=0, accepted_line=0),
    "negative": _wrong(accepted=-1, refused_total=2),
    "no number": _wrong(accepted="1"),
    "true": _wrong(accepted=True),
    "a line that was not sent": _wrong(accepted=0, refused_total=1, refused=[{"line": 9, "code": "c", "message": "m"}]),
    "refused and accepted": _wrong(refused=[{"line": 1, "code": "c", "message": "m"}]),
    "refused twice": _wrong(refused_total=2, accepted=-1, refused=[{"line": 1, "code": "c", "message": "m"}] * 2),
    "beyond what was sent": _wrong(accepted_line=1 << 60),
    "less than what was sent": _wrong(accepted_line=0),
    "without a line": _wrong(accepted_line=None),
    "an endless field": _endless(b"x", b"HTTP/1.1 200 OK\r\nX: "),
    "endless fields": _endless(b"X: y\r\n"),
    "endless long fields": _endless(b"X: " + b"y" * 60_000 + b"\r\n"),
    "endless continuing": _endless(b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    "an endless body": _endless(b" ", b"HTTP/1.1 200 OK\r\n\r\n"),
    "endless chunks": _endless(b"1\r\n \r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a chunk that is none": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a huge length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}"),
    "a huge chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\n{}"),
    "a length that is none": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "a cut head": raw(b"HTTP/1.1 200 OK\r\nConte"),
    "a status that is none": raw(b"HTTP/1.1 99999 OK\r\n\r\n"),
    "no status": raw(b"HTTP/1.1\r\n\r\n"),
    "an upgrade": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
    "another answer behind it": raw(b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
}


@pytest.mark.parametrize("kind", _HOSTILE)
def test_what_is_no_daemon_does_no_harm(web: FakeHttp, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        web.script.append(_HOSTILE[kind])
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
        publisher.publish(an_event(1))
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.presumed) == (2, 0)
        assert_all_counted(stats)
    assert web.numbers() == [0, 1]
    told = [record.getMessage() for record in caplog.records if "cannot publish" in record.getMessage()]
    # The server closes its connection, and a request that was on its way may be reset: that is another trouble.
    told = [message for message in told if "reset by peer" not in message and "Broken pipe" not in message]
    assert len(told) == 1 and len(told[0]) < 500, told


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_slow_answer_is_given_up(is_silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(luxcast.poster, "ANSWER_SECONDS_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as slow:
        with publishing(f"http://127.0.0.1:{slow.getsockname()[1]}") as publisher:
            publisher.publish(an_event(0))
            for _ in range(2):
                connection, _ = slow.accept()
                with connection:
                    assert connection.recv(1 << 16)
                    until = time.monotonic() + PATIENCE
                    try:
                        while time.monotonic() < until:
                            if is_silent:
                                assert connection.recv(1) == b""
                                break
                            connection.sendall(b"H")
                            time.sleep(0.02)
                    except OSError:
                        pass
                    assert time.monotonic() < until, "it was not given up"
            assert publisher.stats().waiting == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_was_ended_is_started_again(web: FakeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise SystemExit(3)

    web.refuses.add("bad")
    web.refused_max = 0
    with publishing(web.url) as publisher:
        for n in range(5):
            publisher.publish(an_event(n, "bad"))
        assert publisher.flush(PATIENCE)
        with monkeypatch.context() as patch:
            patch.setattr(HttpSender, "_settle", fail)
            publisher.publish(an_event(5))
            wait_until(lambda: publisher.stats().last_fault == "SystemExit: 3", "the thread has ended")
        wait_until(lambda: publisher.publish(an_event(6, "bad")), "it is up again")
        publisher.publish(an_event(7, "bad"))
        assert publisher.flush(PATIENCE)
        assert publisher.stats().delivered == 1, "all others are known as refused"
    assert web.numbers() == [5] and len(web.accepted) == 1


def test_close_gives_up_at_its_deadline(web: FakeHttp) -> None:
    web.may_read.clear()
    publisher = Publisher(web.url)
    for n in range(100):
        publisher.publish(an_event(n, text="x" * 50_000))
    wait_until(lambda: web.connections > 0, "it sends")
    began = time.monotonic()
    assert not publisher.close(0.3)
    assert 0.3 <= time.monotonic() - began < 10
    stats = publisher.stats()
    assert stats.waiting == 0 and stats.dropped_closed > 0
    assert not any(thread.name == "luxcast" for thread in threading.enumerate()), "its thread has ended"


def test_a_kept_connection_that_ends_is_no_failure(web: FakeHttp, caplog: pytest.LogCaptureFixture) -> None:
    with publishing(web.url) as publisher:
        for n in range(20):
            publisher.publish(an_event(n))
            if n % 2:
                web.hang_up()
            assert publisher.flush(PATIENCE)
            web.hang_up()
        assert publisher.stats().connections > 1
    assert web.numbers() == list(range(20))
    assert caplog.records == []


def test_a_connection_without_requests_is_let_go(web: FakeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(luxcast.http_sender, "IDLE_SECONDS_MAX", 0.1)
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        wait_until(lambda: web.connections == 1 and not web._sockets, "it is closed")
        publisher.publish(an_event(1))
        assert publisher.flush(PATIENCE)
        assert publisher.stats().connections == web.connections == 2


def test_it_waits_without_using_the_processor(web: FakeHttp) -> None:
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
        before = os.times()
        time.sleep(1.0)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.5


def test_ipv6() -> None:
    try:
        fake = FakeHttp("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with fake, publishing(fake.url) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
        assert fake.requests[0].fields["host"] == f"[::1]:{fake.port}"


def test_a_host_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for url in ("http://127.0.0.1:1", "http://nowhere.invalid", f"http://{'x' * 70}.example", "http://a..b"):
        caplog.clear()
        with publishing(url) as publisher:
            publisher.publish(an_event(0))
            wait_until(lambda: "cannot publish" in caplog.text, "the log tells")
            assert publisher.stats().sender_faults == 0
        assert url in caplog.text


def test_tls_with_a_file_or_a_context(secure: FakeHttp, certificate: Path) -> None:
    url = f"wss://localhost:{secure.port}"
    own = ssl.create_default_context(cafile=f"{certificate}.crt")
    own.maximum_version = ssl.TLSVersion.TLSv1_2
    choices: list[dict[str, Any]] = [{"ca": f"{certificate}.crt"}, {"ca": certificate}, {"ssl_context": own}]
    for round_, settings in enumerate(choices):
        with publishing(url, **settings) as publisher:
            for n in range(2_000):
                publisher.publish(an_event(n, text="x" * 500))
            assert publisher.flush(PATIENCE)
            publisher.publish(an_event(2_000))
            assert publisher.flush(PATIENCE)
            assert publisher.path == f"https://localhost:{secure.port}"
            assert publisher.stats().connections == 1
        assert secure.numbers()[round_ * 2_001 :] == list(range(2_001))


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secure: FakeHttp, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cases: list[tuple[str, dict[str, Any]]]
    cases = [(f"https://localhost:{secure.port}", {}), (secure.url, {"ca": f"{certificate}.crt"})]
    for url, settings in cases:
        caplog.clear()
        with publishing(url, **settings) as publisher:
            publisher.publish(an_event(0))
            wait_until(lambda: "cannot publish" in caplog.text, "the log tells")
            assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert secure.requests == []


def test_plain_text_where_tls_is_expected_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with publishing(f"https://127.0.0.1:{listener.getsockname()[1]}") as publisher:
            publisher.publish(an_event(0))
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                wait_until(lambda: "cannot publish" in caplog.text, "the log tells")
            assert publisher.stats().sender_faults == 0


def test_no_proxy_is_used_unless_one_is_given(web: FakeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with publishing(web.url) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
    with publishing("http://daemon.invalid:99/p", proxy=f"http://me:p%40ss@127.0.0.1:{web.port}") as publisher:
        publisher.publish(an_event(1))
        assert publisher.flush(PATIENCE)
    assert web.numbers() == [0, 1]
    through = web.requests[1]
    assert (through.target, through.fields["host"]) == ("http://daemon.invalid:99/p/api/v1/events", "daemon.invalid:99")
    assert through.fields["proxy-authorization"] == "Basic bWU6cEBzcw=="


def test_tls_goes_through_the_tunnel_of_a_proxy(
    secure: FakeHttp, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def tunnel() -> None:
        refused, _ = listener.accept()
        with refused:
            heads.append(refused.recv(1 << 16))
            refused.sendall(b"HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\nno")
        client, _ = listener.accept()
        heads.append(client.recv(1 << 16))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        daemon = socket.create_connection(("127.0.0.1", secure.port))

        def pour(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(1 << 16):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        back = threading.Thread(target=pour, args=(daemon, client))
        back.start()
        pour(client, daemon)
        back.join()
        client.close()
        daemon.close()

    thread = threading.Thread(target=tunnel)
    thread.start()
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    url = f"https://localhost:{secure.port}"
    with publishing(url, ca=f"{certificate}.crt", proxy=proxy, token="s3cret") as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
    thread.join()
    listener.close()
    assert heads == [f"CONNECT localhost:{secure.port} HTTP/1.1\r\nHost: localhost:{secure.port}\r\n\r\n".encode()] * 2
    assert (secure.numbers(), secure.requests[0].target) == ([0], "/api/v1/events")
    assert "the proxy opens no tunnel: 407" in caplog.text


def test_a_token_may_come_from_a_function(web: FakeHttp, caplog: pytest.LogCaptureFixture) -> None:
    def token() -> str:
        given.append(f"token-{len(given)}")
        if len(given) == 3:
            raise KeyError("token-secret")
        return f"{given[-1]}\n"

    given: list[str] = []
    expired = answer(401, {"error": "unauthorized", "message": "expired"})
    with publishing(web.url, token=token) as publisher:
        for n in range(2):
            publisher.publish(an_event(n))
            assert publisher.flush(PATIENCE)
            web.script.append(expired)
        assert caplog.records == [], "another token is the remedy"
        publisher.publish(an_event(2))
        assert publisher.flush(PATIENCE)
    assert web.numbers() == [0, 1, 2]
    sent = [request.fields["authorization"] for request in web.requests]
    assert [int(text[-1]) for text in sent] == sorted(int(text[-1]) for text in sent)
    assert set(sent) == {"Bearer token-0", "Bearer token-1", "Bearer token-3"}
    assert "the function that gives the token failed with KeyError" in caplog.text
    assert "token-secret" not in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:1", Address(False, "127.0.0.1", 1)),
        ("HTTPS://daemon.example", Address(True, "daemon.example", 443)),
        ("ws://h", Address(False, "h", 80)),
        ("https://h:1/live/luxcast//", Address(True, "h", 1, "/live/luxcast")),
        ("h:65535", Address(False, "h", 65535)),
        ("localhost", Address(False, "localhost", 20555)),
        ("[::1]:9", Address(False, "::1", 9)),
        ("ws://[::1]//", Address(False, "::1", 80)),
        ("http://h:1/p/console/#job=a", Address(False, "h", 1, "/p")),
        ("http://h:1/api/v1/events", Address(False, "h", 1)),
        ("h:1/p/api/ws/jobs/a/monitor?events=x%2Cy&token=s%2Bt&z=1", Address(False, "h", 1, "/p", "s+t")),
        ("ws://h:1/apis", Address(False, "h", 1, "/apis")),
    ],
)
def test_an_address_may_be_written_as_for_luxcast_tail(text: str, expected: Address) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "http://", "http://:1", "http://h:", "http://127.0.0.1:99999", "http://h:0", "http://h:-1", "http://h:+1"),
        *("http://h:1x", "h:port", "http://h:1:2", "http://::1:2", "http://[::1", "http://[::1]1", "http://[h]:1"),
        *("http://user:secret@h:1", "ftp://h", "http://h?token=secret", "http://h:1/#flow=f", "http:// h:1"),
        *("http://h\u00f6:1", "http://h%41:1", "http://h\r\nX: y", "http://h/\x00", "http://\u0663:1"),
    ],
)
def test_an_invalid_address_is_never_taken_for_another(text: str) -> None:
    with pytest.raises(ValueError, match=" ") as failure:
        read(text)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"path": "http://h:x"}, "the daemon's URL has a port that is not a number"),
        ({"path": "https://h", "token": "a b"}, "the token must be"),
        ({"path": "https://h", "token": "a\r\nb"}, "the token must be"),
        ({"path": "https://h", "ca": "/nowhere"}, "ca must be a PEM file"),
        ({"path": "https://h", "ca": __file__}, "ca must be a PEM file"),
        ({"path": "https://h", "ca": __file__, "ssl_context": ssl.create_default_context()}, "only one must"),
        ({"path": "http://h", "ca": __file__}, "must go with an https:// URL"),
        ({"path": "http://h", "proxy": "https://p"}, "proxy must be like"),
        ({"path": "http://h", "proxy": "http://p:0"}, "proxy has a port"),
        ({"path": "/tmp/x", "token": "t"}, "must go with the daemon's URL"),
        ({"token": "t"}, "must go with the daemon's URL"),
        ({"path": "https://h", "name": "a b"}, "name must"),
    ],
)
def test_settings_that_make_no_sense_are_errors(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Publisher(**settings)


def test_variables_say_where_the_daemon_is(web: FakeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXCAST_URL", f"ws://127.0.0.1:{web.port}/p/console/")
    monkeypatch.setenv("LUXCAST_TOKEN", "of-variable")
    with publishing("") as publisher:
        assert publisher.path == f"{web.url}/p"
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
    with publishing(web.url, token="given") as publisher:
        publisher.publish(an_event(1))
        assert publisher.flush(PATIENCE)
    with publishing(f"{web.url}/api/ws/events?token=of-url") as publisher:
        publisher.publish(an_event(2))
        assert publisher.flush(PATIENCE)
    assert [request.target for request in web.requests] == ["/p/api/v1/events", "/api/v1/events", "/api/v1/events"]
    sent = [request.fields["authorization"] for request in web.requests]
    assert sent == ["Bearer of-variable", "Bearer given", "Bearer of-url"]
    assert Publisher("/tmp/x").path == "/tmp/x", "what is given counts"
    monkeypatch.setenv("LUXCAST_INGEST", "/tmp/y")
    assert Publisher().path == "/tmp/y", "which says how to publish, and the URL is for watchers too"
    monkeypatch.delenv("LUXCAST_INGEST")
    monkeypatch.setenv("LUXCAST_URL", "http://h:x")
    with pytest.raises(ValueError, match="the daemon's URL"):
        Publisher()
    monkeypatch.setenv("LUXCAST_DISABLED", "1")
    assert not Publisher().publish(an_event(0)), "nothing is wrong with what is not used"


def test_disabled_it_does_nothing(web: FakeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXCAST_DISABLED", "1")
    with Publisher(web.url, token="t") as publisher:
        assert publisher.is_disabled and not publisher.publish(an_event(0))
        assert publisher.flush() and publisher.stats() == Stats()
    assert web.connections == 0


def test_receipts_are_read_as_the_daemon_writes_them() -> None:
    body = json.dumps({"accepted": 2, "refused": [], "refused_total": 0, "stream_seq": 9, "accepted_line": 7})
    batch = Batch(6, 7, 2, b"a\nb\n")
    assert luxcast.poster._receipt(batch, body.encode()) == luxcast.poster.Receipt([], 0, 7)
