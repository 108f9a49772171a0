"""The states of saves and volumes, and the one table that says what each verb does in each of them.

Owns the table and its texts; reads and changes no state.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from targetplugin.errors import Reason, Refused


class Verb(Enum):
    """What can be asked of a volume and its saves."""

    SAVE = "save"
    DIFF = "diff"
    RECOVER = "recover"
    RESTORE = "restore"
    SWAP = "swap"
    RESYNC = "resync"
    RELEASE = "release"
    FILL = "fill"
    BACKUP = "backup"
    UNDO = "undo"
    REPLACE = "replace"  # a save onto this older save's medium
    EXPORT = "export"  # of a save: to show it to hosts
    CLONE = "clone"
    HOLD = "hold"
    LEG_ADD = "leg add"
    LEG_REMOVE = "leg remove"
    SCRUB = "scrub"
    RESIZE = "volume resize"


class Fill(Enum):
    """How much of a save is on its medium."""

    UNFILLED = "unfilled"  # only what was overwritten since is kept, and nothing is to come
    FILLING = "filling"
    WHOLE = "whole"
    BROKEN = "broken"  # an old extent could not be kept: its content is lost


class Activity(Enum):
    """What is being done with a save."""

    IDLE = "idle"
    RECOVERING = "recovering"  # the volume takes its content back from it
    BACKING_UP = "backing-up"
    RESTORING = "restoring"  # an image fills it, or is compared with it
    BEING_FILLED = "being-filled"  # a spare gets all of it


class Kept(Enum):
    """Where a save's extents are."""

    ON_A_MEDIUM = "on a medium"  # of its own
    IN_THE_STORE = "in the store"  # which the volume's saves without fill share


class Tie(Enum):
    """What else holds on to a save, beside what is being done with it."""

    SHOWN = "shown"  # hosts see it
    CLONED = "cloned"  # a clone is being copied from it


class Hold(Enum):
    """Whether a user keeps a save from going before a time."""

    NONE = "none"
    HELD = "held"


class Store(Enum):
    """Whether saves look up in a volume's legs what they lack."""

    UNUSED = "unused"
    USED = "used"  # it has saves without fill


class Volume(Enum):
    """What a volume is doing as a whole."""

    SETTLED = "settled"
    FILLING = "filling"  # one of its saves fills
    RECOVERING = "recovering"
    CLONING = "cloning"  # it is a clone that is still being copied
    DOWN = "down"  # no leg in sync is there


class Outcome(Enum):
    """What becomes of a verb."""

    DONE = "done"
    REFUSED = "refused"


class Rule(Struct, frozen=True):
    """A field of the table. `why` follows the object's name; `next` is what to do instead."""

    outcome: Outcome
    reason: Reason = Reason.STATE
    why: str = ""
    next: str = ""


State = Fill | Activity | Kept | Tie | Hold | Store | Volume

_DONE = Rule(Outcome.DONE)


def _busy(why: str, next: str) -> Rule:
    return Rule(Outcome.REFUSED, Reason.BUSY, why, next)


def _no(why: str, next: str) -> Rule:
    return Rule(Outcome.REFUSED, Reason.STATE, why, next)


_WAIT = "wait until the operation is done (status shows its progress)"
_FILLS = _busy("is not whole yet: it still fills", _WAIT)
_BROKEN = _no("is broken: an old extent could not be kept", "release it, and use another save")
_SOURCE = _busy("is being recovered from", _WAIT)
_READ = _busy("is being written to a backup", _WAIT + ", or abort it")
_IMAGE = _busy("is still being restored from its image", _WAIT + ", or abort it")
_FILLED = _busy("is being filled", _WAIT + ", or abort it")
_IS_WHOLE = _no("is whole already", "nothing has to be done: it needs nothing but its medium")
_SHARED = _no("has no medium of its own", "fill it first")
_LOOKED_UP = _no(
    "has saves without fill, which look up in its legs what they lack",
    "fill or release them first (status shows them)",
)
_SHOWN = _no("is shown to hosts", "unexport it first")
_CLONED = _busy("has a clone that is still being copied", _WAIT + ", or delete the clone")
_CLONES = _busy("is a clone that is still being copied", _WAIT)
_HELD = _no("is held", "wait until the hold ends, or end it at the terminal: unhold --force")
_RECOVERS = _busy("is taking a save back: a recover runs", _WAIT)
_SAVES_FILL = _busy("has a save that still fills", _WAIT)
_DOWN = _no("is down: no leg in sync is there", "bring the missing medium back")

# Verbs after which a save, or its medium, is not what it was.
_TAKES_AWAY = (Verb.SWAP, Verb.RESYNC, Verb.RELEASE, Verb.REPLACE)

# Every pair of a state and a verb stands here; what a state says nothing of is done.
_EXCEPTIONS: dict[State, dict[Verb, Rule]] = {
    Fill.FILLING: dict.fromkeys(
        (
            Verb.SWAP,
            Verb.RESYNC,
            Verb.FILL,
            Verb.REPLACE,
            Verb.CLONE,
            Verb.RESIZE,
        ),
        _FILLS,
    ),
    Fill.UNFILLED: {},
    Fill.WHOLE: {Verb.FILL: _IS_WHOLE},
    Fill.BROKEN: dict.fromkeys(
        (
            Verb.RECOVER,
            Verb.SWAP,
            Verb.RESYNC,
            Verb.FILL,
            Verb.BACKUP,
            Verb.UNDO,
            Verb.EXPORT,
            Verb.CLONE,
            Verb.HOLD,
            Verb.RESIZE,
        ),
        _BROKEN,
    ),
    Activity.IDLE: {},
    Activity.RECOVERING: dict.fromkeys((*_TAKES_AWAY, Verb.FILL, Verb.RESIZE), _SOURCE),
    Activity.BACKING_UP: dict.fromkeys((*_TAKES_AWAY, Verb.FILL, Verb.BACKUP, Verb.RESIZE), _READ),
    Activity.RESTORING: dict.fromkeys(
        (
            *_TAKES_AWAY,
            Verb.DIFF,
            Verb.RECOVER,
            Verb.FILL,
            Verb.BACKUP,
            Verb.UNDO,
            Verb.EXPORT,
            Verb.CLONE,
            Verb.HOLD,
            Verb.RESIZE,
        ),
        _IMAGE,
    ),
    Activity.BEING_FILLED: dict.fromkeys(
        (*_TAKES_AWAY, Verb.FILL, Verb.BACKUP, Verb.RESIZE), _FILLED
    ),
    Kept.ON_A_MEDIUM: {},
    Kept.IN_THE_STORE: dict.fromkeys((Verb.SWAP, Verb.RESYNC, Verb.REPLACE, Verb.CLONE), _SHARED),
    Tie.SHOWN: dict.fromkeys((*_TAKES_AWAY, Verb.RESIZE), _SHOWN),
    Tie.CLONED: dict.fromkeys((*_TAKES_AWAY, Verb.RESIZE), _CLONED),
    Hold.NONE: {},
    Hold.HELD: dict.fromkeys(_TAKES_AWAY, _HELD),
    Store.UNUSED: {},
    Store.USED: {Verb.SWAP: _LOOKED_UP},
    Volume.SETTLED: {},
    Volume.FILLING: dict.fromkeys((Verb.SWAP, Verb.RESIZE), _SAVES_FILL),
    Volume.RECOVERING: dict.fromkeys(
        (Verb.SAVE, Verb.RECOVER, Verb.SWAP, Verb.RESYNC, Verb.REPLACE, Verb.RESIZE), _RECOVERS
    ),
    Volume.CLONING: dict.fromkeys(
        (
            Verb.SAVE,
            Verb.RECOVER,
            Verb.SWAP,
            Verb.RESYNC,
            Verb.UNDO,
            Verb.REPLACE,
            Verb.SCRUB,
            Verb.RESIZE,
        ),
        _CLONES,
    ),
    Volume.DOWN: dict.fromkeys(
        (
            Verb.SAVE,
            Verb.DIFF,
            Verb.RECOVER,
            Verb.SWAP,
            Verb.RESYNC,
            Verb.FILL,
            Verb.UNDO,
            Verb.REPLACE,
            Verb.LEG_ADD,
            Verb.LEG_REMOVE,
            Verb.SCRUB,
            Verb.RESIZE,
        ),
        _DOWN,
    ),
}
ALL_STATES: tuple[State, ...] = (
    *Fill,
    *Activity,
    *Kept,
    *Tie,
    *Hold,
    *Store,
    *Volume,
)

TABLE: dict[tuple[State, Verb], Rule] = {
    (state, verb): _EXCEPTIONS[state].get(verb, _DONE) for state in ALL_STATES for verb in Verb
}


def require(
    verb: Verb,
    name: str,
    *states: State,
    progress: float | None = None,
    held_until: str | None = None,
) -> None:
    """Raises Refused unless the table lets the verb be done in all of these states of the object.

    Args:
        name: the volume's or save's, for the text.
        progress: of the operation that stands in the way, if one does.
        held_until: when the hold that stands in the way ends, if one does.
    """
    for state in states:
        rule = TABLE[state, verb]
        if rule.outcome is Outcome.REFUSED:
            until = f" until {held_until}" if state is Hold.HELD and held_until else ""
            raise Refused(
                rule.reason,
                f"{verb.value} is refused: {name} {rule.why}{until}",
                object=name,
                hint=rule.next,
                progress=progress if rule.reason is Reason.BUSY else None,
            )
