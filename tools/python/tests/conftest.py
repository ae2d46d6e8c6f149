"""What the tests share. Each daemon and each watcher is real unless a test asks for the fake one."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import Daemon
from fake import FakeDaemon
from fake_http import FakeHttp


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
    with Daemon(socket_path, "--http-publish", "anyone") as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` that nobody signed, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout"
    subprocess.run([*command.split(), path, "-out", f"{path}.crt"], check=True, stderr=subprocess.DEVNULL)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[FakeHttp]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeHttp(context=context) as fake:
        yield fake


@pytest.fixture
def web() -> Iterator[FakeHttp]:
    with FakeHttp() as fake:
        yield fake
