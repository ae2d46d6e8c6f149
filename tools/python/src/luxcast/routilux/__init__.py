"""Sends what a Routilux engine does to the luxcast daemon, by means of the engine's execution hooks.

`install` puts hooks before the existing ones (`hooks`), and replaces a few functions of the engine (`observe`) for
what hooks do not get. Both report to a recorder (`recorder`), which makes the documented events (`events`). The
engine is not affected, whatever fails here.
"""

from luxcast.routilux.install import Installation, install, uninstall

__all__ = ["Installation", "install", "uninstall"]
