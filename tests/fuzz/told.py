"""What a run of cases is told as: a line for each command, and what of all there is was met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from targetplugin.scsi.commands import COMMANDS
from tests.fuzz.judge import BUSY, CONFLICT

Counts = Counter[tuple[str, int]]  # by command, and what was answered: 0 for GOOD, else sense
WORDS = {BUSY: "BUSY", CONFLICT: "RESERVATION CONFLICT"}


def table(counts: Counts) -> Iterator[str]:
    """A line for each command: how often it was sent and was GOOD, and the sense it was refused with."""
    yield f"{'sent':>9} {'good':>9}  command, and sense (key/code/qualifier) x times"
    for name in sorted({name for name, _ in counts}):
        refused = {code: count for (other, code), count in counts.items() if other == name and code}
        good = counts[name, 0]
        told = "  ".join(f"{words(code)} x {count}" for code, count in sorted(refused.items()))
        yield f"{good + sum(refused.values()):9} {good:9}  {name}  {told}".rstrip()


def words(code: int) -> str:
    return WORDS.get(code) or f"{code >> 16:X}/{code >> 8 & 0xFF:02X}/{code & 0xFF:02X}"


def coverage(counts: Counts, opcodes: int) -> str:
    """Of a run that sent so many operation codes."""
    known = {command.name for command in COMMANDS}
    sent = {name for name, _ in counts} & known
    good = {name for name, code in counts if not code} & known
    senses = {code for _, code in counts if code}
    return (
        f"{opcodes} of 256 operation codes; {len(sent)} of {len(known)} commands and service "
        f"actions, {len(good)} of them GOOD at times; {len(senses)} kinds of sense: "
        + " ".join(words(code) for code in sorted(senses))
    )
