"""What verbs report, as sentences and tables. Asks nothing and does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from targetplugin.terminal.progress import amount, has_ended, title
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import draw, say
from targetplugin.terminal.times import format_duration

Fields = dict[str, Any]
_AT_ONCE = (
    "save",
    "recover",
    "undo",
    "swap",
    "clone",
)  # a moment from which they are in force matters to hosts
_COMPARED = ("backup", "restore")  # images, which count no extents
_DIFFERENTIAL = ("recover", "undo", "resync")  # only what differs is copied


def effect(operation: Fields | None) -> str:
    """` (in force after 0.02 s, writes paused for 3.5 ms)`, of what is known."""
    if not operation or operation["verb"] not in _AT_ONCE:
        return ""
    parts = []
    if operation.get("seconds_in_force") is not None:
        parts.append(f"in force after {operation['seconds_in_force']:.3g} s")
    if operation.get("pause_ms") is not None:
        parts.append(f"writes paused for {digits(operation['pause_ms'])} ms")
    return f" ({', '.join(parts)})" if parts else ""


def copied(operation: Fields | None) -> str:
    """What was copied, or how to follow it where it is still going on."""
    if not operation:
        return ""
    if not has_ended(operation):
        number = operation["id"]
        so_far = f"{operation['progress']:.0%}{amount(operation)}"
        return f"Goes on in the background ({so_far}): targetplugin operation watch {number}"
    moved = operation.get("extents_copied") or 0
    size = format_size(operation.get("bytes_copied") or 0)
    if operation["verb"] in _DIFFERENTIAL and operation.get("extents_changed") is not None:
        return f"{operation['extents_changed']} extents differed, {moved} copied ({size})"
    if operation["verb"] == "fill":
        return f"{size} copied"
    if operation["verb"] in _COMPARED and operation.get("bytes_copied"):
        return f"{size} copied, and all of it compared"
    return f"{moved} extents copied ({size})" if moved else ""


def digits(value: float) -> str:
    """Three of them, and of a large number all before the point: `1.57`, `937`, `1570`."""
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"


def would(verb: str, name: str, result: Fields) -> None:
    """What a preview tells."""
    operation = result["operation"]
    onto = f" onto {result['onto']} ({result['kind']})" if result.get("onto") else ""
    say(f"{verb} {operation.get('save') or name}{onto} would be done; nothing was done now.")
    differs = operation["verb"] in _DIFFERENTIAL or result.get("replaced")
    if differs and operation.get("extents_changed") is not None:
        size = f" ({format_size(result['bytes'])})" if "bytes" in result else ""
        say(f"{operation['extents_changed']} extents differ{size} and would be copied.")
        if operation["extents_changed"] and "estimate" in result:
            say(how_long(result["estimate"]))
    if result.get("replaced"):
        say(f"{result['replaced']} would be given up.")
    if result.get("held_until"):
        say(f"It would be held until {when(result['held_until'])}.")
    if result.get("undo_onto"):
        say(f"An undo save would be taken on {result['undo_onto']}.")
    elif result.get("undo_why"):
        say(f"No undo save would be taken: {result['undo_why']}.")
    if operation["verb"] == "backup" and operation.get("bytes_total") is not None:
        say(f"{format_size(operation['bytes_total'])} would be read and written.")


def would_together(result: Fields) -> None:
    """What a preview of a recover or undo of several volumes tells."""
    members = result["members"]
    names = listed([one["save"] for one in members])
    say(f"{names} would be taken back at one instant; nothing was done now.")
    heads = ("save", "extents that differ", "undo save on")
    rows = [[one["save"], one["extents_changed"], one["undo_onto"]] for one in members]
    draw("", heads, rows)
    if result["undo_why"]:
        say(f"No undo saves would be taken: {result['undo_why']}.")


def back_again(result: Fields) -> str:
    """Whether what a recover has just replaced can be had again."""
    if undo := result.get("undo"):
        on, back = ", ".join(undo["media"]), f"targetplugin undo {undo['volume']}"
        return f"What it was is kept as {called(undo)} on {on}; back to it: {back}"
    if result.get("undo_why"):
        return f"No undo save was taken, and this can't be undone: {result['undo_why']}."
    return ""


def all_back_again(result: Fields) -> str:
    """The same of several volumes."""
    if undos := result["undos"]:
        names = listed([called(one) for one in undos])
        back = f"targetplugin undo {' '.join(one['volume'] for one in undos)}"
        return f"What they were is kept as {names}; back to it: {back}"
    if result["undo_why"]:
        return f"No undo saves were taken, and this can't be undone: {result['undo_why']}."
    return ""


def how_long(estimate: Fields | None) -> str:
    """How long a copy may take, and by what that is judged."""
    if estimate is None:
        return "How long that takes is not known: no copy of this volume was measured yet."
    seconds, number = estimate["seconds"], estimate["copies"]
    took = "less than a second" if seconds < 1 else f"about {format_duration(seconds)}"
    copies = f"last {estimate['verb']}" if number == 1 else f"last {number} {estimate['verb']}s"
    rate = format_size(estimate["rate"])
    return f"That takes {took}, as fast as the {copies} of this volume ({rate} a second)."


def tell_effect(sentence: str, operation: Fields | None) -> None:
    """The sentence with the operation's effect, and what was copied."""
    say(sentence + effect(operation) + ".")
    if more := copied(operation):
        say(more + ("" if more.endswith(tuple("0123456789")) else "."))


def called(save: Fields) -> str:
    """`ledger@3 (before-night-run)`."""
    return f"{save['name']} ({save['label']})" if save.get("label") else str(save["name"])


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def typed(save: Fields) -> str:
    """What a person would type for a save: its label where it has one that needs no quotes."""
    label = str(save.get("label") or "")
    plain = label.replace("-", "").replace("_", "").replace(".", "")
    return f"{save['volume']}@{label}" if plain.isalnum() else str(save["name"])


def when(iso: str | None) -> str | None:
    """`2026-01-05 22:00:00Z`, without the parts of a second."""
    return f"{iso[:10]} {iso[11:19]}Z" if iso else None


def volumes(found: Sequence[Fields]) -> None:
    heads = ("volume", "state", "size", "legs", "generation", "changed", "exported as", "operation")
    draw("Volumes", heads, [_volume(one) for one in found])


def _volume(one: Fields) -> list[object]:
    legs = one["legs"]
    in_sync = sum(leg["state"] == "in_sync" for leg in legs)
    changed = one["changed_extents"]
    return [
        one["name"],
        one["state"],
        format_size(one["size"]),
        f"{in_sync} of {max(len(legs), one.get('mirror') or 0)} in sync",
        one["generation"],
        None if changed is None else format_size(changed * one["extent_size"]),
        one["export"]["target"] if one.get("export") else None,
        _running(one.get("operation")),
    ]


def _running(operation: Fields | None) -> str | None:
    return f"{title(operation)} {operation['progress']:.0%}" if operation else None


def legs(found: Sequence[Fields]) -> None:
    heads = ("volume", "medium", "state", "missed extents", "note")
    rows = [
        [
            one["name"],
            leg["medium"],
            leg["state"],
            leg.get("missed_extents"),
            "does not answer" if leg.get("silent") else None,
        ]
        for one in found
        for leg in one["legs"]
    ]
    draw("Legs", heads, rows)


def uses(save: Fields) -> str:
    """What a save is in use for: `idle`, `recovering`, `recovering, shown`."""
    found = [save["activity"]] if save["activity"] != "idle" else []
    found += ["shown"] if save.get("export") else []
    found += [f"clone {name}" for name in save.get("clones") or []]
    return ", ".join(found) or "idle"


def saves(found: Sequence[Fields]) -> None:
    heads = ["save", "label", "taken", "fill", "%", "in use for", "changed since", "medium", "from"]
    heads += ["held until"] if any(save.get("held_until") for save in found) else []
    heads += ["kept"] if any(save.get("kept_bytes") is not None for save in found) else []
    rows = [
        [
            save["name"],
            save.get("label"),
            when(save.get("created")),
            save["fill"],
            f"{save['percent']:.0f}" if save.get("percent") is not None else None,
            uses(save),
            _changed(save),
            ", ".join(save["media"]),
            f"undo of {save['undo']}" if save.get("undo") else save.get("origin"),
            *[when(save.get("held_until"))] * ("held until" in heads),
            *[format_size(save.get("kept_bytes"))] * ("kept" in heads),
        ]
        for save in found
    ]
    draw("Saves", heads, rows)


def _changed(save: Fields) -> str:
    """`2.5 MiB (0.49%)`: of the volume's size."""
    size, percent = format_size(save.get("changed_bytes")), save.get("changed_percent")
    return size if percent is None else f"{size} ({percent:.3g}%)"


def stores(found: Sequence[Fields]) -> None:
    """What volumes' saves without fill share."""
    heads = ("volume", "medium", "state", "size", "used")
    rows = [
        [
            one["name"],
            store["medium"],
            store["state"],
            format_size(store["size"]),
            format_size(store["used"]),
        ]
        for one in found
        if (store := one.get("store"))
    ]
    draw("Stores of saves without fill", heads, rows)


def media(found: Sequence[Fields]) -> None:
    heads = ("medium", "state", "size", "used as", "kind", "path")
    rows = [
        [one["name"], one["state"], format_size(one["size"]), one["use"], one["kind"], one["path"]]
        for one in found
    ]
    draw("Media", heads, rows)


def operations(found: Sequence[Fields], name: str = "Operations") -> None:
    heads = ("no.", "what", "state", "done", "extents", "copied", "in force", "pause", "begun")
    rows = [
        [
            one["id"],
            title(one),
            one["state"],
            f"{one['progress']:.0%}",
            one.get("extents_changed"),
            format_size(one.get("bytes_copied")),
            _unit(one.get("seconds_in_force"), "s"),
            _unit(one.get("pause_ms"), "ms"),
            when(one.get("started")),
        ]
        for one in found
    ]
    draw(name, heads, rows)


def running(found: Sequence[Fields]) -> None:
    operations(found, "Running operations")


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{digits(value)} {unit}"


def exports_of(found: Sequence[Fields]) -> list[Fields]:
    """Of volumes: their exports, each followed by those of its saves."""
    offered = [thing for one in found for thing in (one, *one["saves"])]
    return [thing["export"] for thing in offered if thing.get("export")]


def exports(found: Sequence[Fields]) -> None:
    heads = ("what", "target", "lun", "portals", "naa", "initiator", "chap user", "logged in")
    rows = [
        [
            one["volume"],
            one["target"],
            one["lun"],
            ", ".join(one["portals"]),
            one.get("naa"),
            host["iqn"],
            host.get("chap_user"),
            "yes" if host.get("logged_in") else "no",
        ]
        for one in found
        for host in one["initiators"]
    ]
    draw("Exports", heads, rows)


def groups(found: Sequence[Fields]) -> None:
    heads = ("group", "volumes", "declared", "note")
    rows = [
        [one["name"], ", ".join(one["volumes"]), when(one.get("created")), one.get("why")]
        for one in found
    ]
    draw("Groups", heads, rows)


def backups(found: Sequence[Fields]) -> None:
    heads = ("no.", "save", "label", "stands on", "size", "format", "fits", "taken", "path")
    rows = [
        [
            one["number"],
            one.get("save") or one["volume"],
            one.get("label"),
            _stands_on(one),
            format_size(one.get("size")),
            one["format"],
            "yes" if one.get("fits") else "no",
            when(one.get("created")),
            one["path"],
        ]
        for one in found
    ]
    draw("Backups", heads, rows)


def rules(found: Fields) -> str:
    """`last 3, daily 7, all that are labelled`."""
    parts = [f"{name} {count}" for name, count in found.items() if name != "keep_labelled"]
    return ", ".join(parts + ["all that are labelled"] * bool(found.get("keep_labelled")))


def policies(one: Fields) -> None:
    """What a volume does by itself, and what hosts may ask for."""
    replaced = f"after {one.get('replace_after')} s" if one.get("replace_failed") else "no"
    say(
        f"{one['name']}: in-band rights: {one['rights']}, a save's policy: {one['policy']},"
        f" failed legs replaced by spares: {replaced}"
    )
    if not one.get("write_cache", True):
        say(f"{one['name']}: hosts have switched its write cache off")
    if one.get("retention"):
        say(f"{one['name']} keeps of its saves: {rules(one['retention'])}")


def _stands_on(one: Fields) -> str:
    """`2, 1`: the chain downwards; the file's name where that is not registered."""
    numbers = ", ".join(map(str, one.get("stands_on") or []))
    return numbers or str(one.get("backing") or "").rpartition("/")[2] or "whole"


def everything(status: Fields) -> None:
    """All that there is, table by table."""
    found = status["volumes"]
    volumes(found)
    legs(found)
    saves([save for one in found for save in one["saves"]])
    stores(found)
    exports(exports_of(found))
    groups(status["groups"])
    media(status["media"])
    running(status["operations"])


def volume_in_full(one: Fields) -> None:
    """One volume with all that belongs to it."""
    volumes([one])
    say(
        f"{one['name']}: NAA {one['naa']}, {one['blocks']} blocks, extents of"
        f" {format_size(one['extent_size'])}"
    )
    policies(one)
    if one.get("clone_of"):
        say(f"{one['name']} was made of {one['clone_of']}")
    if one.get("why"):
        say(f"{one['name']} is {one['state']}: {one['why']}")
    say("")
    legs([one])
    saves(one["saves"])
    stores([one])
    exports(exports_of([one]))
