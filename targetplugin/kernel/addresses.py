"""iSCSI's names and addresses: what may be written into configfs as one.

Pure but for asking the machine which addresses it has. Knows no rtslib.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from targetplugin.errors import Reason, Refused
from targetplugin.kernel.rtnetlink import global_addresses

PORT = 3260
NAMING_AUTHORITY = "iqn.2026-11.org.targetplugin"

# RFC 3720, 3.2.6.3.1; LIO's configfs wants a dot in the domain and takes no underscore.
_IQN = re.compile(r"iqn\.\d{4}-(0[1-9]|1[0-2])\.[a-z0-9-]+(\.[a-z0-9-]+)+(:[a-z0-9.:-]+)?")
_IQN_LENGTH = 223


def default_target(volume: str) -> str:
    """The target name of a volume whose operator named none."""
    return check_iqn(f"{NAMING_AUTHORITY}:{volume.lower().replace('_', '-')}")


def check_iqn(name: str) -> str:
    """`name` in small letters.

    Raises:
        Refused: USAGE if it is no iSCSI qualified name that LIO takes.
    """
    small = name.strip().lower()
    if len(small) > _IQN_LENGTH or not _IQN.fullmatch(small):
        raise Refused(
            Reason.USAGE,
            f"{name!r} is no iSCSI qualified name that LIO takes.",
            object=name,
            hint="It is like iqn.2026-11.org.example:name, with a dot in the domain, small "
            "letters, digits, and the signs . : -",
        )
    return small


def check_secret(user: str, password: str) -> None:
    """Refuses CHAP credentials that configfs or an initiator would not take."""
    for what, value, least in (("user name", user, 1), ("secret", password, 12)):
        if value == "NULL" or not least <= len(value) <= 255 or not value.isprintable():
            raise Refused(
                Reason.USAGE,
                f"The CHAP {what} is not one that can be used.",
                object=user,
                hint=f"It has {least} to 255 printable characters, and is not NULL.",
            )


def parse_portal(text: str) -> tuple[str, int]:
    """Address as configfs writes it ([...] around IPv6) and port, of `IP`, `IP:PORT`, `[IP]:PORT`.

    Raises:
        Refused: USAGE if it is none of these.
    """
    host, port = text.strip(), PORT
    bracketed = re.fullmatch(r"\[(.+)\](?::(\d+))?", host)
    plain = re.fullmatch(r"([^:]+):(\d+)", host)
    for match in (bracketed, plain):
        if match:
            host, port = match[1], int(match[2] or PORT)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not 0 < port < 65536:
        raise Refused(
            Reason.USAGE,
            f"{text!r} is no portal.",
            object=text,
            hint="A portal is IP or IP:PORT; an IPv6 address with a port stands in [ ].",
        )
    return (f"[{address}]" if address.version == 6 else str(address)), port


def format_portal(address: str, port: int) -> str:
    """What `parse_portal` reads, in one spelling."""
    return f"{address}:{port}"


def machine_addresses(there: Sequence[str] | None = None) -> list[str]:
    """The machine's own global addresses, as configfs writes them.

    Args:
        there: those that it has; None asks the kernel.
    """
    if there is None:
        try:
            there = global_addresses()
        except OSError as error:
            raise Refused(
                Reason.ENVIRONMENT,
                f"This machine's addresses can't be listed: {error.strerror or error}.",
                hint="Name the portals.",
            ) from error
    return [parse_portal(address)[0] for address in there]


def check_portals(named: Sequence[str] | None, there: Sequence[str] | None = None) -> list[str]:
    """The portals of an export, in one spelling: those named, or the machine's one address.

    LIO would listen on an address that is not there, in case that it comes (it does, after a
    reboot); here, where a person names one, it is refused.

    Raises:
        Refused: USAGE if one is no portal or not of this machine, or if none is named and the
            machine has several addresses, or none.
    """
    addresses = machine_addresses(there)
    have = f"has the addresses {', '.join(addresses)}" if addresses else "has no address"
    if not named:
        if len(addresses) == 1:
            return [format_portal(addresses[0], PORT)]
        raise Refused(
            Reason.USAGE,
            f"No portal is named, and this machine {have}.",
            hint="Name the address that hosts reach it by: --portal IP[:PORT].",
        )
    portals = []
    for text in named:
        address, port = parse_portal(text)
        plain = ipaddress.ip_address(address.strip("[]"))
        if address not in addresses and not plain.is_loopback and not plain.is_unspecified:
            raise Refused(
                Reason.USAGE,
                f"The portal {text} is not on this machine, which {have}.",
                object=text,
                hint="Name one of its addresses.",
            )
        portals.append(format_portal(address, port))
    return portals
