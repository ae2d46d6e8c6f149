"""Ids as the daemon takes them."""

from __future__ import annotations

import re
from functools import lru_cache

_OTHER = re.compile(r"[^A-Za-z0-9_.:-]")
_LENGTH_MAX = 128


@lru_cache(maxsize=4096)
def fit(text: str) -> str:
    """The id itself, or with `_` for each character that the daemon refuses, and cut to the length that it takes.

    A flow is often given a name with blanks; refused lines would help nobody.
    """
    return _OTHER.sub("_", str(text))[:_LENGTH_MAX]
