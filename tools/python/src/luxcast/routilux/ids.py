"""Ids in the form that the daemon accepts."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_OTHER = re.compile(r"[^A-Za-z0-9_.:-]")
_LENGTH_MAX = 128
_DIGITS = 8
"""Digits of the hash: among a thousand similar names, two become one id in one of ten thousand cases."""


@lru_cache(maxsize=4096)
def fit(text: str) -> str:
    """Returns the id itself if the daemon accepts it. Else `_` replaces each refused character, the id is cut, and a
    hash of the whole is appended: names in other scripts would all look alike.

    Flows often have names with spaces; refusing their events would help nobody.
    """
    fitted = _OTHER.sub("_", text)
    if fitted == text and len(text) <= _LENGTH_MAX:
        return text
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{fitted[: _LENGTH_MAX - 1 - _DIGITS]}-{digits}"
