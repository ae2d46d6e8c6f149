"""Functions of the engine that are replaced for a while."""

from __future__ import annotations

import functools
from typing import Any, Callable, Optional


class Patch:
    """Replaces one function of a module or a class until `undo`. Does nothing if the engine has no such function."""

    def __init__(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """`make` gets the present function and returns its replacement."""
        self._owner = owner
        self._name = name
        self._original: Optional[Callable[..., Any]] = vars(owner).get(name)
        if self._original is not None:
            self._ours = functools.wraps(self._original)(make(self._original))
            setattr(owner, name, self._ours)

    @property
    def is_in_place(self) -> bool:
        return self._original is not None and vars(self._owner).get(self._name) is self._ours

    def undo(self) -> None:
        """Unless other code has replaced ours: then that stays, and calls ours, which only has to pass on."""
        if self.is_in_place:
            setattr(self._owner, self._name, self._original)
