"""What is wrong with a configuration string that targetcli was given: asks the daemon, changes nothing."""

from __future__ import annotations

from targetplugin.control.client import Client, ControlError
from targetplugin.kernel.tcmu import SUBTYPE

DESCRIPTION = (
    "The name of a volume of targetplugin. The storage object must be called as the volume is, and have"
    " its size: name=ledger size=512M cfgstring=ledger. targetplugin volume list shows both. Of a"
    " 4Kn volume: control=hw_block_size=4096 besides."
)


def trouble(config: str, socket: str) -> str:
    """Why a storage object can't be made of `targetplugin/VOLUME`, and what to do; "" if it can.

    Args:
        socket: the daemon's control socket.
    """
    subtype, _, name = config.partition("/")
    if subtype != SUBTYPE or not name:
        return f"{config!r} names no volume. Give the name of one: cfgstring=ledger"
    try:
        with Client.connect(socket) as client:
            volume = client.call("volume.show", name=name)
    except ControlError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return f"{error.message}{hint}"
    if volume["export"]:
        return (
            f"{name} is exported by targetplugin, as {volume['export']['target']}. Use that export, or"
            f" withdraw it first: targetplugin unexport {name}"
        )
    return ""
