"""What the tests share. Each daemon and each watcher is real unless a test asks for the fake one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import Daemon
from fake import FakeDaemon


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LUXCAST_DISABLED", "LUXCAST_INGEST", "LUXCAST_URL", "LUXCAST_TOKEN", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    return str(tmp_path / "ingest.sock")


@pytest.fixture
def fake(socket_path: str) -> Iterator[FakeDaemon]:
    with FakeDaemon(socket_path) as daemon:
        yield daemon


@pytest.fixture
def daemon(socket_path: str) -> Iterator[Daemon]:
    with Daemon(socket_path) as running:
        yield running
