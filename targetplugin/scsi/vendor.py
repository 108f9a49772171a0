"""PIT COPY IN and OUT: the vendor commands as verbs of the subsystem. Translates both ways; decides nothing.

Layouts are scsi/pitcopy.py's. What the subsystem refuses becomes sense data here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from targetplugin.errors import Reason, Refused
from targetplugin.scsi import pitcopy, sense
from targetplugin.scsi.pitcopy import (
    InAction,
    InRequest,
    Malformed,
    OutAction,
    OutRequest,
    Parameters,
)
from targetplugin.scsi.sense import Sense

SENSE = {
    Reason.USAGE: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.NOT_FOUND: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.EXISTS: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.STATE: sense.COMMAND_SEQUENCE_ERROR,
    Reason.RIGHTS: sense.ACCESS_DENIED,
    Reason.BUSY: sense.OPERATION_IN_PROGRESS,
    Reason.NO_MEDIUM: sense.INSUFFICIENT_RESOURCES,
    Reason.DATA: sense.COMMAND_SEQUENCE_ERROR,
    Reason.REQUEST_MISMATCH: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.HOSTS: sense.COMMAND_SEQUENCE_ERROR,
    Reason.ENVIRONMENT: sense.INTERNAL_TARGET_FAILURE,
}


OUT_ACTIONS = (
    OutAction.SAVE,
    OutAction.RECOVER,
    OutAction.RESTORE,
    OutAction.SWAP,
    OutAction.RESYNC,
    OutAction.RELEASE,
    OutAction.ABORT,
    OutAction.UNDO,
)
TOGETHER = (
    OutAction.SAVE,
    OutAction.RECOVER,
    OutAction.SWAP,
    OutAction.UNDO,
)  # as one, where asked
BY_OPERATION = (OutAction.ABORT, OutAction.UNDO)  # the generation's field has an operation's number
ON_A_SAVE = (OutAction.RECOVER, OutAction.SWAP, OutAction.RESYNC, OutAction.RELEASE)
# Bytes of the parameter list, for field pointers.
FLAGS, DESIGNATORS, DEADLINE, GENERATION, REQUEST, BACKUP, HOLD, LABEL = 1, 2, 4, 8, 16, 32, 34, 40
OPERATIONS_AT_MOST = 200
MAX_NUMBER = 2**63 - 1  # of generations and operations


class Failed(Exception):
    """A command ends with CHECK CONDITION."""

    def __init__(self, value: Sense) -> None:
        super().__init__(value)
        self.value = value


def in_cdb(position: int) -> Failed:
    """INVALID FIELD IN CDB, with the byte at fault."""
    return Failed(sense.replace(sense.INVALID_FIELD_IN_CDB, field_pointer=position))


def in_list(position: int) -> Failed:
    """INVALID FIELD IN PARAMETER LIST, with the byte at fault."""
    return Failed(sense.replace(sense.INVALID_FIELD_IN_PARAMETER_LIST, field_pointer=position))


@contextmanager
def _at_fault(reason: Reason, position: int) -> Iterator[None]:
    """Says which byte of the list a refusal for this reason is about."""
    try:
        yield
    except Refused as refused:
        if refused.reason is reason:
            raise in_list(position) from None
        raise


def _malformed(error: Malformed) -> Failed:
    if error.length:
        return Failed(sense.PARAMETER_LIST_LENGTH_ERROR)
    return in_cdb(error.position) if error.in_cdb else in_list(error.position)


def _seconds(created: str) -> int:
    return int(datetime.fromisoformat(created).timestamp())


class Vendor:
    """The vendor commands of one volume. Methods raise Failed or errors.Refused."""

    def __init__(self, subsystem: Any, volume: str) -> None:
        self._subsystem = subsystem
        self._volume = volume

    def sense_of(self, refused: Refused) -> Sense:
        """What a refusal is to a host."""
        value = SENSE[refused.reason]
        if refused.reason is Reason.BUSY:
            return sense.replace(value, progress=refused.progress or 0.0)
        if refused.reason is Reason.REQUEST_MISMATCH:
            return sense.replace(value, field_pointer=REQUEST)
        if refused.reason is Reason.NOT_FOUND:
            return sense.replace(value, field_pointer=GENERATION)
        if refused.reason is Reason.EXISTS:
            return sense.replace(value, field_pointer=LABEL)
        return value

    # --- PIT COPY IN ----------------------------------------------------------------------------

    def copy_in(self, cdb: bytes) -> bytes:
        """What a PIT COPY IN command returns, at most its allocation length."""
        try:
            request = InRequest.decode(cdb)
        except Malformed as error:
            raise _malformed(error) from None
        shown = self._subsystem.volume_show(self._volume)
        if request.action is not InAction.CAPABILITIES and shown["rights"] == "none":
            raise Failed(sense.ACCESS_DENIED)
        answer = {
            InAction.CAPABILITIES: self._capabilities,
            InAction.PAIR_STATUS: self._pair_status,
            InAction.DIFFERENTIAL_EXTENTS: self._differential,
            InAction.SAVES: self._saves,
            InAction.OPERATIONS: self._operations,
            InAction.BACKUPS: self._backups,
        }[request.action](request, shown)
        return answer[: request.allocation_length]

    def _capabilities(self, request: InRequest, shown: dict[str, Any]) -> bytes:
        return pitcopy.Capabilities(
            shown["rights"],
            shown["extent_size"],
            tuple(InAction),
            OUT_ACTIONS,
            group=self._subsystem.group_limit(self._volume),
        ).encode()

    def _pair_status(self, request: InRequest, shown: dict[str, Any]) -> bytes:
        running = shown["operation"]
        return pitcopy.PairStatus(
            shown["generation"],
            shown["extent_size"],
            shown["changed_extents"],
            shown["state"],
            tuple((leg["state"], leg["missed_extents"]) for leg in shown["legs"]),
            running["verb"] if running else None,
            running["id"] if running else 0,
            running["progress"] if running else 0.0,
        ).encode()

    def _differential(self, request: InRequest, shown: dict[str, Any]) -> bytes:
        save = next((s for s in shown["saves"] if s["slot"] == request.slot), None)
        if save is None:
            raise in_cdb(6)
        size, block = shown["extent_size"], shown["block_size"]
        if request.start * size >= shown["size"]:
            raise in_cdb(2)
        room = max(0, (request.allocation_length - 24) // 16)
        runs: list[tuple[int, int]] = []
        following = pitcopy.END
        for run in self._subsystem.diff(save["name"], door="in-band")["list"]:
            first = max(run["offset"], request.start * size)
            end = run["offset"] + run["length"]
            if first >= end:
                continue
            if len(runs) == room:
                following = first // size
                break
            blocks = min((end - first) // block, 0xFFFFFFFF // (size // block) * (size // block))
            runs.append((first // block, blocks))
        return pitcopy.DifferentialExtents(
            size, save["generation"], shown["generation"], tuple(runs), following
        ).encode()

    def _saves(self, request: InRequest, shown: dict[str, Any]) -> bytes:
        saves = sorted(
            (s for s in shown["saves"] if s["slot"] >= request.start), key=lambda s: int(s["slot"])
        )
        items = [
            pitcopy.Save(
                s["slot"],
                s["generation"],
                s["fill"],
                s["activity"],
                int(s["percent"]),
                _seconds(s["created"]),
                s["changed_extents"],
                s["label"],
                s["undo"] is not None,
                _seconds(s["held_until"]) if s["held_until"] else 0,
            ).encode()
            for s in saves
        ]
        return pitcopy.encode_list(items, request.allocation_length, [s["slot"] for s in saves])

    def _operations(self, request: InRequest, shown: dict[str, Any]) -> bytes:
        found = self._subsystem.operations(self._volume, OPERATIONS_AT_MOST)
        found = [o for o in found if not request.start or o["id"] <= request.start]
        items = [
            pitcopy.Operation(
                o["id"],
                bytes.fromhex(o["request"]) if o["request"] else bytes(16),
                o["verb"],
                o["state"],
                o["progress"],
                int(o["save"].rpartition("@")[2]) if o["save"] else 0,
                sense.COMMAND_SEQUENCE_ERROR.encode() if o["state"] == "failed" else b"",
                int(o["undo"].rpartition("@")[2]) if o["undo"] else 0,
            ).encode()
            for o in found
        ]
        return pitcopy.encode_list(items, request.allocation_length, [o["id"] for o in found])

    def _backups(self, request: InRequest, shown: dict[str, Any]) -> bytes:
        found = sorted(self._subsystem.backup_list(self._volume), key=lambda b: int(b["number"]))
        found = [b for b in found if b["number"] >= request.start]
        items = [
            pitcopy.Backup(
                b["number"], b["label"], _seconds(b["created"]), b["size"], b["fits"]
            ).encode()
            for b in found
        ]
        return pitcopy.encode_list(items, request.allocation_length, [b["number"] for b in found])

    # --- PIT COPY OUT ---------------------------------------------------------------------------

    def copy_out(self, cdb: bytes, data_out: bytes) -> bytes:
        """Does what a PIT COPY OUT command asks; there is no data to return."""
        try:
            request = OutRequest.decode(cdb)
            if request.action not in OUT_ACTIONS:
                raise in_cdb(1)
            if len(data_out) < request.list_length:
                raise Failed(sense.PARAMETER_LIST_LENGTH_ERROR)
            asked = Parameters.decode(data_out[: request.list_length])
        except Malformed as error:
            raise _malformed(error) from None
        self._check(request.action, asked)
        # All zeros: the host gives no identifier, and asking twice is asking for two.
        identifier = asked.request if any(asked.request) else None
        common: dict[str, Any] = {
            "door": "in-band",
            "request": identifier,
            "preview": request.preview,
        }
        if asked.no_fill:
            common["policy"] = "sparse"
        if asked.hold:
            common["hold_seconds"] = asked.hold
        if asked.designators:
            self._together(request.action, asked, common)
        elif request.action is OutAction.SAVE:
            if asked.generation:
                older = self._subsystem.resolve(self._volume, asked.generation)
                common["replace"] = older
            with _at_fault(Reason.USAGE, LABEL):
                self._subsystem.save(self._volume, label=asked.label, **common)
        elif request.action is OutAction.RESTORE:
            with _at_fault(Reason.NOT_FOUND, BACKUP):
                self._subsystem.restore(self._volume, backup=asked.backup, **common)
        elif request.action is OutAction.ABORT:
            self._abort(asked.generation, preview=request.preview)
        elif request.action is OutAction.UNDO:
            self._subsystem.undo(self._volume, op=asked.generation, no_undo=asked.no_undo, **common)
        else:
            if request.action is OutAction.RECOVER:
                common["no_undo"] = asked.no_undo
            verb = getattr(self._subsystem, request.action.name.lower())
            verb(self._subsystem.resolve(self._volume, asked.generation), **common)
        return b""

    def _together(self, action: OutAction, asked: Parameters, common: dict[str, Any]) -> None:
        """Does it to several volumes as one."""
        naas = [one.naa.hex() for one in asked.designators]
        names = self._subsystem.group_reach(self._volume, naas)
        common["deadline_ms"] = asked.deadline_ms or None
        if action is OutAction.SAVE:
            with _at_fault(Reason.USAGE, LABEL):
                self._subsystem.save_group(names, label=asked.label, **common)
            return
        if action is OutAction.UNDO:
            common["no_undo"] = asked.no_undo
            self._subsystem.undo_group(names, op=asked.generation, **common)
            return
        generations = [asked.generation, *(one.generation for one in asked.designators)]
        saves = [
            self._subsystem.resolve(name, generation)
            for name, generation in zip(names, generations, strict=True)
        ]
        if action is OutAction.SWAP:
            self._subsystem.swap_group(saves, **common)
        else:
            self._subsystem.recover_group(saves, no_undo=asked.no_undo, **common)

    def _check(self, action: OutAction, asked: Parameters) -> None:
        """Fields that must, or must not, be given with this action."""
        if asked.designators and action not in TOGETHER:
            raise in_list(DESIGNATORS)
        for number, one in enumerate(asked.designators):
            # Each has a save that is meant; or none has: a new one, or those of the operation that is undone.
            if (action in ON_A_SAVE) != bool(one.generation) or one.generation > MAX_NUMBER:
                at = pitcopy.LIST_LENGTH + number * pitcopy.DESIGNATOR_LENGTH
                raise in_list(at + len(one.naa))
        if asked.deadline_ms and not asked.designators:
            raise in_list(DEADLINE)
        if asked.no_undo and action not in (OutAction.RECOVER, OutAction.UNDO):
            raise in_list(FLAGS)
        if asked.no_fill and (action is not OutAction.SAVE or asked.generation):
            raise in_list(FLAGS)
        named = action in ON_A_SAVE or action in BY_OPERATION
        either = action is OutAction.SAVE  # a new one, or onto an older one's medium
        if (named != bool(asked.generation) and not either) or asked.generation > MAX_NUMBER:
            raise in_list(GENERATION)
        if (action is OutAction.RESTORE) != bool(asked.backup):
            raise in_list(BACKUP)
        if asked.hold and action is not OutAction.SAVE:
            raise in_list(HOLD)
        if asked.label and action is not OutAction.SAVE:
            raise in_list(LABEL)

    def _abort(self, number: int, *, preview: bool) -> None:
        if self._subsystem.volume_show(self._volume)["rights"] != "all":
            raise Failed(sense.ACCESS_DENIED)
        try:
            found = self._subsystem.operation(number)
        except Refused:
            raise in_list(GENERATION) from None
        if found["volume"] != self._volume:
            raise in_list(GENERATION)
        if not preview:
            self._subsystem.abort(number)
