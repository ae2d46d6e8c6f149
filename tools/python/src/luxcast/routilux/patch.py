"""Functions of the engine in whose place others stand for a while."""

from __future__ import annotations

import functools
from typing import Any, Callable, Optional


class Patch:
    """Replaces one function of a module or a class until `undo`. Does nothing where the engine has no such function."""

    def __init__(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """`make` gets the function that is there, and returns the one to be there in its place."""
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
        """Unless somebody else put something over it: then that stays, and calls ours, which has to pass on only."""
        if self.is_in_place:
            setattr(self._owner, self._name, self._original)
