"""Where targetcli finds us: under the service's own name, or under tcmu-runner, whichever has it.

There is one such name. Whoever starts first gets it; where tcmu-runner comes later it is given up to it,
for it serves more than one kind, and passes on what it is asked of ours.
"""

from __future__ import annotations

import logging

from targetplugin.dbus.bus import Bus, Failed
from targetplugin.dbus.configs import DESCRIPTION
from targetplugin.dbus.objects import MANAGER, MANAGER_PATH, SERVICE
from targetplugin.kernel.tcmu import SUBTYPE

log = logging.getLogger(__name__)


class Place:
    """See the module. `settle` is called at the start, when the name has another owner, and now and then."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known_to = ""  # the connection at which we are registered
        self._told = ""

    def settle(self) -> bool:
        """Takes the place that there is to be had. Whether targetcli finds us now."""
        owner = self._bus.owner(SERVICE)
        if owner == self._bus.own_name and self._bus.others_wait(SERVICE):
            log.info("another program waits for %s: it gets it", SERVICE)
            self._bus.release(SERVICE)
            owner = self._bus.owner(SERVICE)
        if not owner and self._bus.own(SERVICE):
            owner = self._bus.own_name
            log.info("targetcli finds %s at %s, which is ours", SUBTYPE, SERVICE)
        if owner == self._bus.own_name:
            self._known_to = ""
            return True
        return bool(owner) and self._registered(owner)

    def _registered(self, owner: str) -> bool:
        if owner == self._known_to:
            return True
        try:
            self._bus.own(f"{MANAGER}.{SUBTYPE}")  # tcmu-runner looks who has it
            words = ("RegisterHandler", "ss", SUBTYPE, DESCRIPTION)
            ok, why = self._bus.call(SERVICE, MANAGER_PATH, MANAGER, *words)
        except Failed as error:
            ok, why = False, str(error)
        if ok:
            self._known_to = owner
            self._told = ""
            log.info("targetcli finds %s by the program that has %s", SUBTYPE, SERVICE)
        elif self._told != why:
            log.error("the program that has %s does not take %s: %s", SERVICE, SUBTYPE, why)
            self._told = why
        return bool(ok)
