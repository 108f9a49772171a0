"""What a volume's host would be told of every verb, asked in-band with PREVIEW: runs on the initiator.

`previews.py DISK GENERATION BACKUP` prints JSON: verb -> "done", or the sense as "key/asc/ascq" in hex.
"""

from __future__ import annotations

import json
import sys

sys.path.insert(0, "/opt/targetplugin/checkout")

from targetplugin.host import sgio
from targetplugin.scsi.pitcopy import InAction, InRequest, OutAction, OutRequest, Parameters

ON_A_SAVE = (OutAction.RECOVER, OutAction.SWAP, OutAction.RESYNC, OutAction.RELEASE)


def asked(disk: str, cdb: bytes, **data: bytes | int) -> str:
    try:
        sgio.execute(disk, cdb, **data)  # type: ignore[arg-type]
    except sgio.Checked as checked:
        value = checked.value
        return f"{value.key:x}/{value.asc:02x}/{value.ascq:02x}"
    return "done"


def main() -> None:
    disk, generation, slot, backup = sys.argv[1], *map(int, sys.argv[2:5])
    found = {}
    for action in (OutAction.SAVE, OutAction.RESTORE, *ON_A_SAVE):
        number = generation if action in ON_A_SAVE else 0
        image = backup if action is OutAction.RESTORE else 0
        data = Parameters(number, bytes(16), "", image).encode()
        cdb = OutRequest(action, len(data), preview=True).encode()
        found[action.name.lower()] = asked(disk, cdb, data_out=data)
    cdb = InRequest(InAction.DIFFERENTIAL_EXTENTS, 0, slot, 4096).encode()
    found["diff"] = asked(disk, cdb, data_in=4096)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
