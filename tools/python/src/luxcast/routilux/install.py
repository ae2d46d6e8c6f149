"""Puts hooks into the engine, and removes them again."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Optional, Union

from luxcast.publisher import Publisher
from luxcast.routilux.hooks import Front
from luxcast.routilux.observe import Observer
from luxcast.routilux.recorder import Recorder

if TYPE_CHECKING:
    from luxcast.endpoint import Token

IDLE_SECONDS = 2.0
"""Long enough for code that waits for a job's result to end the job itself."""


class Installation:
    """What is in the engine until `uninstall`; nothing if luxcast is disabled."""

    def __init__(self, publisher: Publisher, owns_publisher: bool, idle_seconds: Optional[float]) -> None:
        self.publisher = publisher
        self._owns_publisher = owns_publisher
        self._front: Optional[Front] = None
        if publisher.is_disabled:
            return
        module = importlib.import_module("routilux.core.hooks")
        self._recorder = Recorder(publisher)
        self._observer = Observer(self._recorder)
        if not (self._observer.sees_runs and self._observer.sees_tasks):
            logging.getLogger("luxcast").warning(
                "this version of Routilux is unknown to luxcast: watchers see no end of a job that nobody ends, or "
                "only the runs of routines that jobs are posted to"
            )
        if self._observer.sees_tasks:
            self._recorder.end_idle_jobs(idle_seconds)
        self._front = Front(module, self._recorder)
        publisher.at_exit(self._recorder.end_with_process)

    @property
    def is_in_place(self) -> bool:
        """Whether the engine calls our hooks first."""
        return self._front is not None and self._front.is_in_place

    def uninstall(self, deadline: float = 5.0) -> None:
        """Restores the engine, except for hooks that were set meanwhile. Jobs that are over get their end. Sends
        what waits, if `install` made the publisher."""
        if self._front is not None:
            self._recorder.stop(deadline)
            self._front.remove()
            self._observer.remove()
            self.publisher.not_at_exit(self._recorder.end_with_process)
            self._front = None
        if self._owns_publisher:
            self.publisher.close(deadline)

    def begin_anew(self) -> None:
        """In a forked child."""
        if self._front is not None:
            self._front.begin_anew()
            self._recorder.begin_anew()


def _in_words(error: ImportError) -> ImportError:
    """Says what is missing and who needs it."""
    words = "luxcast.routilux.install() needs Routilux, which cannot be imported here"
    missing = error.name or ""
    if missing == "routilux":
        words += ": pip install routilux"
    elif missing.startswith("routilux."):
        words = f"luxcast.routilux.install() does not support this Routilux, which has no {missing}"
    return ImportError(f"{words} ({error})", name=error.name, path=error.path)


_installing = threading.Lock()
_installation: Optional[Installation] = None


def install(
    publisher: Optional[Publisher] = None,
    *,
    path: Optional[Union[str, "os.PathLike[str]"]] = None,
    token: Optional[Token] = None,
    ca: Optional[Union[str, "os.PathLike[str]"]] = None,
    idle_seconds: Optional[float] = IDLE_SECONDS,
) -> Installation:
    """Sends what the engine does from now on.

    Makes a publisher to the daemon at `path`, which may be a URL (or at its usual place), unless one is given. Does nothing if already
    installed, or if luxcast is disabled. Raises ImportError if Routilux is missing, with the reason.

    A job for which the engine has had nothing to do for `idle_seconds` is reported as over, since the engine itself
    ends none. With None, only `complete_job` ends jobs.
    """
    global _installation
    with _installing:
        if _installation is not None and _installation.is_in_place:
            return _installation
        if _installation is not None:
            _installation.uninstall()
        given = publisher if publisher is not None else Publisher(path, token=token, ca=ca, name="routilux")
        try:
            _installation = Installation(given, publisher is None, idle_seconds)
        except ImportError as error:
            if publisher is None:
                given.close(0)
            raise _in_words(error) from error
        return _installation


def uninstall(deadline: float = 5.0) -> None:
    """Undoes `install`."""
    global _installation
    with _installing:
        if _installation is not None:
            _installation.uninstall(deadline)
            _installation = None


def _after_fork_in_child() -> None:
    global _installing
    _installing = threading.Lock()
    if _installation is not None:
        _installation.begin_anew()


os.register_at_fork(after_in_child=_after_fork_in_child)
