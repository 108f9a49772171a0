"""What hosts know a disk by: a volume, or a save that is shown. Reads and changes nothing."""

from __future__ import annotations

import uuid as uuids


def naa(uuid: bytes) -> str:
    """NAA 6 (locally kept): LIO's company id and 25 digits of the uuid, as LIO derives it of a serial."""
    return "6001405" + uuid.hex()[:25]


def of_save(volume: bytes, generation: int) -> bytes:
    """The uuid of a save as a disk: of its volume's and its generation, which is never used twice, so the
    same whenever it is shown.
    """
    return uuids.uuid5(uuids.UUID(bytes=volume), f"save {generation}").bytes
