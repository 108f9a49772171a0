"""Why a test of iscsi-test-cu does not pass on a volume, as far as it is known. Owns these sentences."""

from __future__ import annotations

import fnmatch

from .iscsi_tests import Outcome

NOT_REMOVABLE = "a volume is no removable medium"
NO_COPIES = "EXTENDED COPY is refused: it names logical units, and could reach another's"
NO_SANITIZE = "SANITIZE is refused: it could not be done truly on media that are not ours alone"

PASSTHROUGH = "LIO sets residuals itself for its own backstores alone"
# Tests that no user-backed store can pass, so that fileio may be better at them.
LIO = ("iSCSIResiduals.*",)

# The first that fits counts.
CAUSES = {
    "PreventAllow.*": NOT_REMOVABLE,
    "StartStopUnit.Simple": NOT_REMOVABLE,
    "ExtendedCopy.*": NO_COPIES,
    "ReceiveCopyResults.*": NO_COPIES,
    "Sanitize.*": NO_SANITIZE,
    "ReadOnly.ReadOnlySBC": "a volume can be written; a save that is shown to hosts can't",
    "Reserve6.Target*Reset": "LIO's iSCSI target does not do this task management function",
    "GetLBAStatus.UnmapSingle": "the test asks for one block and expects an answer for the next physical one,"
    " where a physical block has several",
    "WriteAtomic16.*": "WRITE ATOMIC is not there: media of several kinds promise no such thing",
    "MultipathIO.*": "the test wants a second path, which the run does not give it",
    "iSCSICHAP.*": "the run's hosts have no CHAP",
    "iSCSIResiduals.*": f"{PASSTHROUGH}: for a user-backed store it only ever lowers the length"
    " (target_set_cmd_data_length), so an overflow can't be told, and the command is refused instead",
    "iSCSIdatasn.*": "LIO's iSCSI target gives no answer to Data-Out out of sequence; so on fileio",
    "Reserve6.LUNReset": "the tool ends in it at times, on fileio too",
    "WriteSame1?.ZeroBlocks": "WRITE SAME of no blocks means to the end of the medium; VPD B0h says"
    " that it is not taken (WSNZ), and the test looks at that",
}


def is_of_lio(name: str) -> bool:
    """Whether it fails for what LIO does, whatever the store answers."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in LIO)


def cause(name: str, outcome: Outcome) -> str:
    """The cause, or what the test itself said."""
    for pattern, why in CAUSES.items():
        if fnmatch.fnmatch(name, pattern):
            return why
    return f"not known yet; the test says: {outcome.said or 'nothing'}"
