"""What verbs report, as sentences and tables. Asks nothing and does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from targetplugin.terminal.progress import amount, has_ended, title
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import draw, say

Fields = dict[str, Any]
_AT_ONCE = ("save", "recover", "swap")  # a moment from which they are in force matters to hosts
_COMPARED = ("backup", "restore")  # images, which count no extents
_DIFFERENTIAL = ("recover", "resync")  # only what differs is copied


def effect(operation: Fields | None) -> str:
    """` (in force after 0.02 s, writes paused for 3.5 ms)`, of what is known."""
    if not operation or operation["verb"] not in _AT_ONCE:
        return ""
    parts = []
    if operation.get("seconds_in_force") is not None:
        parts.append(f"in force after {operation['seconds_in_force']:.3g} s")
    if operation.get("pause_ms") is not None:
        parts.append(f"writes paused for {operation['pause_ms']:.3g} ms")
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
    if operation["verb"] in _COMPARED and operation.get("bytes_copied"):
        return f"{size} copied, and all of it compared"
    return f"{moved} extents copied ({size})" if moved else ""


def would(verb: str, name: str, result: Fields) -> None:
    """What a preview tells."""
    operation = result["operation"]
    onto = f" onto {result['onto']} ({result['kind']})" if result.get("onto") else ""
    say(f"{verb} {operation.get('save') or name}{onto} would be done; nothing was done now.")
    if operation["verb"] in _DIFFERENTIAL and operation.get("extents_changed") is not None:
        say(f"{operation['extents_changed']} extents differ.")
    if operation["verb"] == "backup" and operation.get("bytes_total") is not None:
        say(f"{format_size(operation['bytes_total'])} would be read and written.")


def tell_effect(sentence: str, operation: Fields | None) -> None:
    """The sentence with the operation's effect, and what was copied."""
    say(sentence + effect(operation) + ".")
    if more := copied(operation):
        say(more + ("" if more.endswith(tuple("0123456789")) else "."))


def called(save: Fields) -> str:
    """`ledger@3 (before-night-run)`."""
    return f"{save['name']} ({save['label']})" if save.get("label") else str(save["name"])


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


def saves(found: Sequence[Fields]) -> None:
    heads = ("save", "label", "taken", "fill", "%", "in use for", "changed since", "medium", "from")
    rows = [
        [
            save["name"],
            save.get("label"),
            when(save.get("created")),
            save["fill"],
            f"{save['percent']:.0f}" if save.get("percent") is not None else None,
            save["activity"],
            format_size(save.get("changed_bytes")),
            ", ".join(save["media"]),
            save.get("origin"),
        ]
        for save in found
    ]
    draw("Saves", heads, rows)


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


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.3g} {unit}"


def exports(found: Sequence[Fields]) -> None:
    heads = ("volume", "target", "lun", "portals", "initiator", "chap user", "logged in")
    rows = [
        [
            one["volume"],
            one["target"],
            one["lun"],
            ", ".join(one["portals"]),
            host["iqn"],
            host.get("chap_user"),
            "yes" if host.get("logged_in") else "no",
        ]
        for one in found
        for host in one["initiators"]
    ]
    draw("Exports", heads, rows)


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


def _stands_on(one: Fields) -> str:
    """`2, 1`: the chain downwards; the file's name where that is not registered."""
    numbers = ", ".join(map(str, one.get("stands_on") or []))
    return numbers or str(one.get("backing") or "").rpartition("/")[2] or "whole"


def volume_in_full(one: Fields) -> None:
    """One volume with all that belongs to it."""
    volumes([one])
    say(
        f"{one['name']}: NAA {one['naa']}, extents of {format_size(one['extent_size'])},"
        f" in-band rights: {one['rights']}, a save's policy: {one['policy']}"
    )
    if one.get("why"):
        say(f"{one['name']} is {one['state']}: {one['why']}")
    say("")
    legs([one])
    saves(one["saves"])
    if one.get("export"):
        exports([one["export"]])
