"""Sends what a Routilux engine does to the luxcast daemon, by way of the engine's execution hooks.

`install` puts hooks in front of those that are there (`hooks`), and stands in the place of a few functions of the
engine (`observe`) for what hooks are not told. Both tell a recorder (`recorder`) what happens; it makes the documented
events out of it (`events`). The engine does not notice, whatever fails here.
"""

from luxcast.routilux.install import Installation, install, uninstall

__all__ = ["Installation", "install", "uninstall"]
