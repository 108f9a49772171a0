"""The names that TCMU knows our objects by: configuration strings, uio names, loop targets.

Strings only; opens and makes nothing.
"""

from __future__ import annotations

import hashlib

from targetplugin.errors import Reason, Refused

SUBTYPE = "targetplugin"  # what the configuration strings of our objects begin with
PREFIX = "tcm-user/"
CONFIG_LIMIT = 255  # bytes of dev_config (TCMU_CONFIG_LEN, less its end)


def parse_name(attribute: str) -> tuple[int, str, str] | None:
    """hba, storage object and configuration from a uio device's name attribute.

    None if it is not a TCMU device's. The kernel makes it in target_core_user.c, as
    `tcm-user/<hba>/<name>/<config>`.
    """
    if not attribute.startswith(PREFIX):
        return None
    parts = attribute[len(PREFIX) :].strip().split("/", 2)
    if len(parts) != 3 or not parts[0].isdigit():
        return None
    return int(parts[0]), parts[1], parts[2]


def configuration(volume: str) -> str:
    """TCMU's configuration string of a volume.

    Raises:
        Refused: USAGE if it has a sign that configfs or rtslib would lose, or is too long.
    """
    config = f"{SUBTYPE}/{volume}"
    if len(config.encode()) > CONFIG_LIMIT or not volume or set(volume) & set(":, \t\n"):
        raise Refused(
            Reason.USAGE,
            f"{volume!r} can't stand in a TCMU configuration string.",
            object=volume,
            hint=f"At most {CONFIG_LIMIT} bytes, without colon, comma and space.",
        )
    return config


def loop_wwn(config: str) -> str:
    """The name of a volume's tcm_loop target: LIO's own prefix, then 36 bits of its own."""
    return f"naa.5001405{hashlib.sha256(config.encode()).hexdigest()[:9]}"
