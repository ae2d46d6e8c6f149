"""A publisher and watcher with the Python library `requests` or `httpx`: posts the lines of a file in all forms, checks the
answers, and reads them back as NDJSON and as Server-Sent Events. Arguments: the library, the daemon's URL, the file."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator

LINES = "application/x-ndjson"
JSON = "application/json"
BATCH = 500
PATIENCE = 60

library, url, file = sys.argv[1:]
with open(file, encoding="utf-8") as corpus:
    lines = corpus.read().splitlines()

if library == "requests":
    import requests

    session = requests.Session()

    def post(content_type: str, body: bytes | Iterator[bytes], **fields: str) -> tuple[int, dict]:
        headers = {"Content-Type": content_type, **fields}
        answer = session.post(f"{url}/api/v1/events", data=body, headers=headers, timeout=PATIENCE)
        return answer.status_code, answer.json()

    def stream(accept: str) -> Iterator[str]:
        headers = {"Accept": accept}
        with requests.get(f"{url}/api/ws/events", headers=headers, stream=True, timeout=PATIENCE) as answer:
            answer.raise_for_status()
            yield from (line.decode() for line in answer.iter_lines(chunk_size=None, delimiter=b"\n"))

else:
    import httpx

    client = httpx.Client(timeout=PATIENCE)

    def post(content_type: str, body: bytes | Iterator[bytes], **fields: str) -> tuple[int, dict]:
        headers = {"Content-Type": content_type, **fields}
        answer = client.post(f"{url}/api/v1/events", content=body, headers=headers)
        return answer.status_code, answer.json()

    def stream(accept: str) -> Iterator[str]:
        with httpx.stream("GET", f"{url}/api/ws/events", headers={"Accept": accept}, timeout=PATIENCE) as answer:
            answer.raise_for_status()
            yield from answer.iter_lines()


class Watcher:
    """Gathers as many events as the file has lines."""

    def __init__(self, accept: str, read: Callable[[str], str]) -> None:
        self.events: list[str] = []
        self._accept, self._read = accept, read
        self._is_there = threading.Event()
        self._thread = threading.Thread(target=self._gather)
        self._thread.start()
        assert self._is_there.wait(PATIENCE)

    def _gather(self) -> None:
        for line in stream(self._accept):
            message = self._read(line)
            if '"connection:status"' in message:
                self._is_there.set()
            if event := re.fullmatch(r'\{"stream_seq":[0-9]+,(.*)', message):
                self.events.append("{" + event.group(1))
            if len(self.events) == len(lines):
                return

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"{len(self.events)} events of {len(lines)} came"


watchers = [
    Watcher("application/x-ndjson", lambda line: line),
    Watcher("text/event-stream", lambda line: line[len("data: ") :] if line.startswith("data: ") else ""),
]
forms: list[Callable[[list[str]], tuple[str, bytes | Iterator[bytes]]]] = [
    lambda batch: (LINES, "\n".join(batch).encode()),
    # Without a length: chunked.
    lambda batch: (LINES, (f"{line}\n".encode() for line in batch)),
    lambda batch: (JSON, f"[{','.join(batch)}]".encode()),
]
for number, start in enumerate(range(0, len(lines), BATCH)):
    batch = lines[start : start + BATCH]
    named = {"Luxcast-Publisher": f"{library}-poster", "Luxcast-Line": str(start + 1)}
    # The second time as after an answer that was lost.
    for _ in range(2):
        content_type, body = forms[number % len(forms)](batch)
        status, answer = post(content_type, body, **named)
        assert (status, answer["accepted"], answer["refused"]) == (200, len(batch), []), answer
        assert answer["accepted_line"] == start + len(batch), answer
status, answer = post(LINES, b"nope\n")
assert (status, answer["refused"][0]["code"], answer["refused_total"]) == (422, "bad_json", 1), answer
status, answer = post("text/plain", b"{}")
assert (status, answer["error"]) == (415, "unsupported_media_type"), answer
for watcher in watchers:
    watcher.join()
    assert watcher.events == lines
print("posted", len(lines), flush=True)
