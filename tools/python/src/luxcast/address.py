"""The daemon's address as a URL: one to publish to, or one copied from a browser's address bar or from a program."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, Optional
from urllib.parse import parse_qsl, urlsplit

PORT = 20555
"""The port that the daemon listens on by default."""

_SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")

_OWN_PATH = re.compile(r"/(?:api|console)(?=/|$)")
"""Where the daemon's own path begins; what stands before it belongs to a proxy."""


class Address(NamedTuple):
    is_tls: bool
    host: str
    """A name or an address; an IPv6 address without its brackets."""
    port: int
    prefix: str = ""
    """Empty, or a path that begins with a slash and does not end with one."""
    token: str = ""
    """From the query of the URL."""

    @property
    def authority(self) -> str:
        """As in a `Host` field: the scheme's own port is left out (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Without the token, for people."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.prefix}"


def is_url(text: str) -> bool:
    """Whether a text is the URL of a daemon, and not the path of a socket."""
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme.group(1).lower() in _SCHEMES


def read(text: str) -> Address:
    """Reads `http://HOST:PORT` and its variants: `https`, `ws`, `wss`, no scheme, a path before the daemon's own, the
    address of the live page and of an endpoint. Raises ValueError with what is wrong; the text is not repeated, since
    it may hold a token."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has a space or another character that no URL may have")
    if (scheme := _SCHEME.match(text)) is None:
        text, default = f"http://{text}", PORT
    elif scheme.group(1).lower() not in _SCHEMES:
        raise ValueError("must begin with http://, https://, ws:// or wss://")
    else:
        default = 443 if _SCHEMES[scheme.group(1).lower()] else 80
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("must be like https://HOST:PORT") from None
    host, port = _host_and_port(parts.netloc)
    own = _OWN_PATH.search(parts.path)
    if own is None and (parts.query or not f"{parts.fragment}job=".startswith("job=")):
        raise ValueError("must be like https://HOST:PORT: the token does not stand in it")
    prefix = parts.path[: own.start()] if own else parts.path
    token = dict(parse_qsl(parts.query))
    return Address(
        is_tls=_SCHEMES[parts.scheme.lower()],
        host=host,
        port=default if port is None else port,
        prefix=prefix.rstrip("/"),
        token=token.get("token") or token.get("api_key") or "",
    )


def _host_and_port(authority: str) -> tuple[str, Optional[int]]:
    if "@" in authority:
        raise ValueError("must not contain a user or password: give the token as token= or in LUXCAST_TOKEN")
    bracketed = re.fullmatch(r"\[([^]]*)\](?::(.*))?", authority)
    if bracketed is not None:
        host, port = bracketed.groups()
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("must have an IPv6 address in its brackets") from None
    else:
        host, colon, rest = authority.partition(":")
        if ":" in rest:
            raise ValueError("must have its IPv6 address in brackets")
        port = rest if colon else None
        if _HOST.fullmatch(host) is None:
            raise ValueError("must be like https://HOST:PORT")
    if port is None:
        return host, None
    # An empty port, as from an unset variable, is refused too: the scheme's own port belongs to another server.
    if re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 < int(port) < 1 << 16:
        raise ValueError("has a port that is not a number from 1 to 65535")
    return host, int(port)
