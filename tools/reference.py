"""`python3 -m tools.reference > docs/reference.md`: the reference, made from the code. A test holds the file to it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from targetplugin import daemon, logs
from targetplugin.control.methods import METHODS
from targetplugin.dbus import main as dbus
from targetplugin.engine import native
from targetplugin.errors import Reason
from targetplugin.hooks import service as hooks
from targetplugin.host import pitcopy as host
from targetplugin.kernel import service as lio
from targetplugin.media import service as files
from targetplugin.metrics.families import FAMILIES
from targetplugin.qemu import service as images
from targetplugin.scsi import commands, pitcopy, vendor
from targetplugin.subsystem.ground.states import ALL_STATES, TABLE, Outcome, Verb
from targetplugin.terminal.verbs import build_parser

EXIT_STATUS = """\
Exit status of `targetplugin` and `pitcopy`: 0 done, 1 refused by state or environment, 2 wrong usage (of `pitcopy run`
and `pitcopy jobs`: the command's own); of `pitcopy` 128 + N where signal N stopped it. With `--json` a refusal of `targetplugin` is an object `{"error": {...}}` too.
"""
HEAD = """# Reference

Made from the code by `python3 -m tools.reference`; a test compares it. How to do things is in the [how-to pages](howto.md).

- [targetplugin](#targetplugin), [targetplugind](#targetplugind), [targetplugin-lio](#targetplugin-lio), [targetplugin-files](#targetplugin-files),
  [targetplugin-images](#targetplugin-images), [targetplugin-hooks](#targetplugin-hooks), [targetplugin-dbus](#targetplugin-dbus), [pitcopy](#pitcopy)
- [States and verbs](#states-and-verbs)
- [SCSI commands](#scsi-commands), [PIT COPY](#pit-copy), [answers to refused requests](#answers-to-refused-requests)
- [Control socket](#control-socket), [metrics](#metrics), [log](#log)
- [Files](#files)

"""
FILES = """
## Files

| path | what |
| --- | --- |
| `/var/lib/targetplugin/` | the catalog (SQLite) and the maps of frozen generations; mode 0700, of the user `targetplugin`. Losing it loses no host data |
| `/run/targetplugin/control.sock` | the control socket, mode 0660; root or the daemon's user only |
| `/run/targetplugin-lio.sock` | where the daemon asks for changes of LIO and for rings; mode 0600; the daemon's user only |
| `/run/targetplugin-files.sock` | where the daemon has files and disks opened; the same |
| `/run/targetplugin-images.sock` | where the daemon has qemu-img, wipefs and sfdisk run; the same |
| `/run/targetplugin-hooks.sock` | where the daemon has hooks run; the same |
| `/run/targetplugin/unanswered/` | COMPARE AND WRITE commands under way, to be known again after a kill; mode 0700. Nobody else's to write |
| `/var/lib/pitcopy/` | on hosts: where a `pitcopy run` or `jobs` stands; it must outlive a reboot (`PITCOPY_STATE_DIR` names another place) |
| a medium | the volume's plain data from offset 0; at its end a trailer: superblocks, volume records, maps |

The daemon's directories are its options `--state-dir` and `--run-dir`; where metrics are told is `--metrics`. The service takes options from
`OPTIONS` in `/etc/default/targetplugind`, if that is there. Everything else is set by verbs and kept in the catalog.

## Times

| what | how long |
| --- | --- |
| a killed daemon | systemd starts it again at once; hosts wait and see no error |
| a daemon that stays away | hosts are told BUSY by the kernel and repeat: Linux gives up after 180 s |
| the activity log empties | 2 s after the last write |
"""


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all verbs, in order."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for one in group.choices.values():
            yield from leaves(one)


def help_of(title: str, parser: argparse.ArgumentParser) -> str:
    parts = [f"\n## {title}\n\n```\n{parser.format_help().rstrip()}\n```\n"]
    for leaf in leaves(parser):
        if leaf is not parser:
            parts.append(f"\n### {leaf.prog}\n\n```\n{leaf.format_help().rstrip()}\n```\n")
    return "".join(parts)


def states() -> str:
    """The table of states, as the code has it."""
    lines = [
        "\n## States and verbs\n",
        "A save has a fill and an activity, a volume a state of its own; a verb is done when no row forbids it.\n",
        "| state | " + " | ".join(verb.value for verb in Verb) + " |",
        "| --- |" + " --- |" * len(Verb),
    ]
    notes: dict[str, str] = {}
    for state in ALL_STATES:
        cells = []
        for verb in Verb:
            rule = TABLE[state, verb]
            if rule.outcome is Outcome.DONE:
                cells.append("done")
            else:
                cells.append("busy" if rule.reason is Reason.BUSY else "refused")
                notes[f"{type(state).__name__.lower()} {state.value}"] = f"{rule.why}; {rule.next}"
        lines.append(
            f"| {type(state).__name__.lower()}: {state.value} | " + " | ".join(cells) + " |"
        )
    lines.append("\nWhy, and what to do next:\n")
    lines += [f"- {state}: {note}" for state, note in notes.items()]
    return "\n".join(lines) + "\n"


def scsi() -> str:
    lines = [
        "\n## SCSI commands\n",
        "`native` ones are answered by the engine without Python. What is not here is refused with ILLEGAL REQUEST 20h/00h:",
        "EXTENDED COPY (it names logical units, and could reach another's) and SANITIZE (which could not be done truly) among them.",
        "REPORT LUNS, PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE are answered by LIO itself, before they come here. REPORT",
        "SUPPORTED OPERATION CODES reads the same table. START STOP UNIT starts, and is refused where it would stop or eject. What a",
        "READ with FUA or a VERIFY finds is on stable storage when it is answered.\n",
        f"COMPARE AND WRITE takes up to {native.MAX_COMPARE >> 10} KiB, ORWRITE, WRITE AND VERIFY and a VERIFY that brings its blocks",
        f"{native.MAX_STEPS >> 10} KiB, other VERIFYs, UNMAP and WRITE SAME {native.MAX_VERIFY >> 20} and"
        f" {native.MAX_UNMAP >> 20} MiB, whatever a volume's blocks are. COMPARE AND WRITE, ORWRITE and WRITE AND VERIFY are atomic",
        "against all other commands on their blocks, and against saves, recovers and swaps. A COMPARE AND WRITE that was done",
        "but not answered when the daemon was killed is sent again by the host, as LIO answers BUSY in the dead daemon's place. It is",
        "known again by its blocks and data (`/run/targetplugin/unanswered/`), finished without being compared, and GOOD, once. For",
        "the 5 s that it has for that, all else that wants its blocks is BUSY, which hosts repeat. Where the machine itself went down,",
        "a volume has got a save, recover or swap since, or the daemon was killed in the microseconds between the end of the note and",
        "the answer, it is compared with what it wrote itself: MISCOMPARE, never a GOOD for what another host may have written.",
        "One that comes again later than that is a command as any other: it writes once more where its blocks hold by then what it",
        "compares with.\n",
        "Of the mode pages (caching, control, informational exceptions) a host can change one bit, WCE: whether there is a write",
        "cache. Without one no write of any kind is answered before it is on stable storage, as if each had FUA, and MODE SELECT",
        "itself is answered when all that was answered before is there. What is set holds for all hosts of the volume, and while",
        "the daemon is restarted or dies; with SP it is saved, too, and holds when the machine starts again. `volume show` says so",
        "where hosts have no write cache. On Linux: `echo 'write through' > /sys/class/scsi_disk/*/cache_type`, or",
        "`sdparm --clear=WCE --save`. TCMU does not tell who sent a command, so other hosts get no UNIT ATTENTION 2Ah/01h for it.",
        "A save that is shown takes no change.\n",
        "| opcode | service action | name | usage bitmap | answered by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in commands.COMMANDS:
        action = "" if one.action is None else f"{one.action:02X}h"
        who = one.handler if one.handler in (commands.NATIVE, commands.KERNEL) else "logical unit"
        lines.append(
            f"| {one.opcode:02X}h | {action} | {one.name} | `{one.usage.hex(' ')}` | {who} |"
        )
    text = (pitcopy.__doc__ or "").strip()
    lines += ["\n## PIT COPY\n", "```", text, "```", "\n## Answers to refused requests\n"]
    lines += ["| why | sense key, additional sense code |", "| --- | --- |"]
    lines += [
        f"| {reason.value.replace('_', ' ')} | {value.sentence()} |"
        for reason, value in vendor.SENSE.items()
    ]
    lines.append(
        "\nAfter a recover or swap the logical unit answers its next command with UNIT ATTENTION 28h/00h, or returns that to a"
        "\nREQUEST SENSE. The kernel tells the store nothing of who sent a command, so this attention reaches one session only."
        "\n\nAfter a volume has grown it is UNIT ATTENTION 2Ah/09h, CAPACITY DATA HAS CHANGED, once and to one session, too. The kernel"
        "\nitself raises none: it only keeps the size (`dev_size`) to show it. READ CAPACITY says the new size to all."
    )
    return "\n".join(lines) + "\n"


def control() -> str:
    lines = [
        "\n## Control socket\n",
        "JSON-RPC 2.0, one object a line, on a unix socket; parameters by name.\n",
        "| method | parameters |",
        "| --- | --- |",
    ]
    for name, method in METHODS.items():
        fields = ", ".join(f"`{field}`" for field in method.params.__struct_fields__)
        lines.append(f"| `{name}` | {fields} |")
    return "\n".join(lines) + "\n"


def log() -> str:
    lines = [
        "\n## Log\n",
        "What records of the services have besides systemd's own fields (`MESSAGE`, `PRIORITY`, `SYSLOG_IDENTIFIER`, `CODE_FILE`,",
        "`CODE_LINE`, `CODE_FUNC`), where they are known. Where standard error is not the journal's: `operation=17 volume=ledger`.\n",
        "| in the journal | elsewhere | what |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `TARGETPLUGIN_{name.upper()}` | `{name}` | {what} |"
        for name, what in logs.FIELDS.items()
    ]
    lines += [
        "| `LOGGER`, `THREAD` | the first before the message | which part of the program |",
        "| `EXCEPTION_TYPE`, `EXCEPTION_TEXT` | the lines after it | of a defect: Python's exception, and its traceback |",
    ]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    lines = [
        "\n## Metrics\n",
        "`GET /metrics` at the place that `targetplugind --metrics` names, in Prometheus' text format. Counters begin at 0",
        "with the daemon, and there are none of a volume that is down.\n",
        "| name | kind | labels | what |",
        "| --- | --- | --- | --- |",
    ]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind.value} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The whole text."""
    os.environ["COLUMNS"] = "100"
    return (
        HEAD
        + EXIT_STATUS
        + help_of("targetplugin", build_parser())
        + help_of("targetplugind", daemon.parser())
        + help_of("targetplugin-lio", lio.parser())
        + help_of("targetplugin-files", files.parser())
        + help_of("targetplugin-images", images.parser())
        + help_of("targetplugin-hooks", hooks.parser())
        + help_of("targetplugin-dbus", dbus.parser())
        + help_of("pitcopy", host.parser())
        + states()
        + scsi()
        + control()
        + metrics()
        + log()
        + FILES
    )


if __name__ == "__main__":
    sys.stdout.write(reference())
