"""Ids as the daemon takes them."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_OTHER = re.compile(r"[^A-Za-z0-9_.:-]")
_LENGTH_MAX = 128
_DIGITS = 8
"""Of the hash: two of a thousand names that look alike become one id in one of ten thousand cases."""


@lru_cache(maxsize=4096)
def fit(text: str) -> str:
    """The id itself if the daemon takes it. Else with `_` for each character that it refuses, cut to its length, and
    with a hash of the whole behind it: names of other scripts would all look alike.

    A flow is often given a name with blanks; refused lines would help nobody.
    """
    fitted = _OTHER.sub("_", text)
    if fitted == text and len(text) <= _LENGTH_MAX:
        return text
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{fitted[: _LENGTH_MAX - 1 - _DIGITS]}-{digits}"
