"""What the environment says: where the daemon is, and whether anything is to be sent at all."""

import os

_OFF = ("", "0", "false", "no", "off")


def is_disabled() -> bool:
    """Whether `LUXCAST_DISABLED` is set, to anything but an empty text, `0`, `false`, `no` or `off`."""
    return os.environ.get("LUXCAST_DISABLED", "").strip().lower() not in _OFF


def default_path() -> str:
    """The daemon's socket, as the daemon itself finds it: `LUXCAST_INGEST`, else in `XDG_RUNTIME_DIR`, else in /run."""
    given = os.environ.get("LUXCAST_INGEST")
    if given:
        return given
    directory = os.environ.get("XDG_RUNTIME_DIR")  # one that is not absolute is to be ignored
    if directory and os.path.isabs(directory):
        return os.path.join(directory, "luxcast.sock")
    return "/run/luxcast/ingest.sock"
