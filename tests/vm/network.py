"""The network between the two machines: their addresses, and one link over a unix socket.

It must not touch an interface of the machine that the lab runs on.
"""

from pathlib import Path

ADDRESSES = {"target": "10.77.0.1", "initiator": "10.77.0.2"}
MACHINES = tuple(ADDRESSES)
INITIATOR_NAME = "iqn.2026-11.org.targetplugin:initiator"


def hosts_file() -> str:
    """`/etc/hosts` of both machines."""
    lines = ["127.0.0.1 localhost"]
    lines += [f"{address} {name}" for name, address in ADDRESSES.items()]
    return "\n".join(lines) + "\n"


def qemu_arguments(machine: str, run_dir: Path) -> list[str]:
    """QEMU's arguments for a machine's end of the link.

    Datagrams, so that either end may come and go (a power cut) with no one to reconnect.
    """
    here = run_dir / f"{machine}.net"
    (there,) = (run_dir / f"{name}.net" for name in MACHINES if name != machine)
    mac = f"52:54:00:4d:00:{MACHINES.index(machine) + 1:02x}"
    return [
        "-netdev",
        f"dgram,id=link,local.type=unix,local.path={here},remote.type=unix,remote.path={there}",
        "-device",
        f"virtio-net-pci,netdev=link,mac={mac},romfile=",
    ]
