"""Puts the hooks into the engine, and takes them out again."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import Any, Optional

from luxcast.publisher import Publisher
from luxcast.routilux.failures import LOGGER, FailureFilter
from luxcast.routilux.hooks import Hooks
from luxcast.routilux.recorder import Recorder


class Installation:
    """Hooks that are in the engine, until `uninstall`; none where luxcast is disabled."""

    def __init__(self, publisher: Publisher, owns_publisher: bool) -> None:
        self.publisher = publisher
        self._owns_publisher = owns_publisher
        self._engine: Any = None
        self._hooks: Optional[Hooks] = None
        self._filter: Optional[FailureFilter] = None
        if publisher.is_disabled:
            return
        self._engine = importlib.import_module("routilux.core.hooks")
        recorder = Recorder(publisher)
        self._hooks = Hooks(recorder, self._engine.get_execution_hooks())
        # So that whoever asks finds an instance of the engine's interface, without depending on it here.
        self._engine.ExecutionHooksInterface.register(Hooks)
        self._filter = FailureFilter(recorder)
        logging.getLogger(LOGGER).addFilter(self._filter)
        self._engine.set_execution_hooks(self._hooks)

    @property
    def is_in_place(self) -> bool:
        """Whether the engine calls our hooks first. `MonitoringRegistry.enable()` and `disable()` put others there."""
        return self._hooks is not None and self._engine.get_execution_hooks() is self._hooks

    def uninstall(self, deadline: float = 5.0) -> None:
        """Puts back the hooks that were there before; sends what waits, if the publisher was made by `install`.

        Where other hooks were put over ours, these stay, and ours only pass on.
        """
        if self._hooks is not None and self._filter is not None:
            self._hooks.is_active = False
            logging.getLogger(LOGGER).removeFilter(self._filter)
            if self.is_in_place:
                self._engine.set_execution_hooks(self._hooks.before)
            self._hooks = None
        if self._owns_publisher:
            self.publisher.close(deadline)


_installing = threading.Lock()
_installation: Optional[Installation] = None


def install(publisher: Optional[Publisher] = None, *, path: Optional[str] = None) -> Installation:
    """Sends what the engine does from now on; call it after `MonitoringRegistry.enable()`.

    Makes a publisher to the daemon at `path` (or its usual place) unless one is given. Does nothing if it is there
    already. Raises ImportError without Routilux, nothing where luxcast is disabled.
    """
    global _installation
    with _installing:
        if _installation is not None and _installation.is_in_place:
            return _installation
        if _installation is not None:
            _installation.uninstall()
        given = publisher if publisher is not None else Publisher(path, name="routilux")
        _installation = Installation(given, owns_publisher=publisher is None)
        return _installation


def uninstall(deadline: float = 5.0) -> None:
    """Undoes `install`."""
    global _installation
    with _installing:
        if _installation is not None:
            _installation.uninstall(deadline)
            _installation = None
