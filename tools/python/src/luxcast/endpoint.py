"""Where to publish over HTTP, and how: address, token, TLS and proxy."""

from __future__ import annotations

# Names of hosts need it. A child that is forked while a thread imports it could never have it.
import encodings.idna  # noqa: F401
import os
import re
import ssl
from base64 import b64encode
from typing import Callable, NamedTuple, Optional, Union
from urllib.parse import unquote_to_bytes

from luxcast.address import Address, read

PATH = "/api/v1/events"

Token = Union[str, Callable[[], str]]
"""A token, or a function that gives it."""


class Endpoint(NamedTuple):
    address: Address
    token: Token
    """Empty: none is sent."""
    context: Optional[ssl.SSLContext]
    """None: without TLS."""
    proxy: Optional[Address]
    proxy_credentials: str
    """What the field `Proxy-Authorization` has; empty: none is sent."""

    def current_token(self) -> str:
        """Raises OSError if the function that gives it fails, or gives what is no token."""
        if isinstance(self.token, str):
            return self.token
        try:
            return checked_token(self.token())
        except Exception as error:
            # Not its text, which may hold a token.
            raise OSError(f"the function that gives the token failed with {type(error).__name__}") from None


def endpoint(
    url: str,
    token: Optional[Token],
    variable: str,
    ca: Optional[Union[str, "os.PathLike[str]"]],
    context: Optional[ssl.SSLContext],
    proxy: Optional[str],
) -> Endpoint:
    """`variable` is the token of the environment, for want of another. Raises ValueError for what makes no sense."""
    try:
        address = read(url)
    except ValueError as error:
        raise ValueError(f"the daemon's URL {error}") from None
    given = token if token else address.token or variable
    if isinstance(given, str):
        given = checked_token(given)
    if not address.is_tls:
        if ca is not None or context is not None:
            raise ValueError("ca and ssl_context must go with an https:// URL")
        tls = None
    elif context is not None:
        if ca is not None:
            raise ValueError("of ca and ssl_context only one must be given")
        tls = context
    else:
        tls = _context(ca)
    proxy_address, credentials = _proxy(proxy)
    return Endpoint(address._replace(token=""), given, tls, proxy_address, credentials)


def checked_token(token: object) -> str:
    """Blanks around it, such as the end of a file's line, are not part of it."""
    text = token.strip() if isinstance(token, str) else None
    if text is None or re.fullmatch(r"[!-~]{0,4096}", text) is None:
        raise ValueError("the token must be a text of at most 4096 visible ASCII characters")
    return text


def _context(ca: Optional[Union[str, "os.PathLike[str]"]]) -> ssl.SSLContext:
    if ca is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=os.fsdecode(ca))
    except OSError as error:  # also for a file without a certificate
        raise ValueError(f"ca must be a PEM file with certificates: {error}") from error
    # The file may have the daemon's own certificate instead of its authority's.
    context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)
    return context


def _proxy(text: Optional[str]) -> tuple[Optional[Address], str]:
    if not text:
        return None, ""
    found = re.fullmatch(r"(?:http://)?(?:([^/@]*)@)?([^@/]*)/?", text)
    if found is None:
        raise ValueError("proxy must be like http://HOST:PORT")
    credentials, rest = found.groups()
    try:
        address = read(f"http://{rest}")
    except ValueError as error:
        raise ValueError(f"proxy {error}") from None
    # What is escaped in a URL, such as an @ in the password.
    encoded = b64encode(unquote_to_bytes(credentials)).decode() if credentials else ""
    return address._replace(prefix=""), f"Basic {encoded}" if encoded else ""
