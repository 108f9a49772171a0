"""The shell's tree: /volumes/<name>/saves/<save>, /groups, /media and /operations, with verbs as commands.

Each command is a command line of `targetplugin`, run as if it were typed there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from configshell_fb import ConfigNode

from targetplugin.terminal import results
from targetplugin.terminal.tables import printable

Fields = dict[str, Any]
Run = Callable[..., None]


def _taken_back(force: str, wait: str, no_undo: str) -> dict[str, str]:
    """The switches of a recover or an undo."""
    return {"force": force, "wait": wait, "no-undo": no_undo}


class Node(ConfigNode):  # type: ignore[misc]
    """A node that knows how to run a command line. What it shows comes with `bring`."""

    # Only what belongs to these is shown by `help`: there is nothing to configure in a node.
    help_intro = """
                 A tree of volumes, their saves, groups, media and operations. Move with cd, look with ls.
                 A command is [PATH] COMMAND [VALUE...] [NAME=VALUE...], as in

                   /volumes/ledger save label=before-night-run
                   /volumes/ledger/saves/ledger@before-night-run recover
                   /groups/books save label=before-night-run
                 """

    def __init__(self, name: str, parent: Node | None, run: Run, shell: Any = None) -> None:
        super().__init__(name, parent, shell)
        self.run = run
        self.facts: Fields = {}

    def summary(self) -> tuple[str, bool | None]:
        return (f"{len(self.children)}", None)

    def bring(self, wanted: dict[str, Fields], make: type[Node]) -> None:
        """Makes the children those of `wanted`, and gives each what is known of it."""
        for child in list(self.children):
            if child.name not in wanted:
                self.remove_child(child)
        there = {child.name: child for child in self.children}
        for name, facts in wanted.items():
            child = there.get(name) or make(name, self, self.run)
            child.facts = facts
            child.grow()

    def grow(self) -> None:
        """Brings the children in line with the facts."""

    def ui_command_status(self) -> None:
        """Shows volumes, legs, saves, media and what is going on."""
        self.run("status")


class Root(Node):
    """/"""

    def __init__(self, run: Run, shell: Any) -> None:
        super().__init__("/", None, run, shell)
        self.volumes = Volumes("volumes", self, run)
        self.declared = Groups("groups", self, run)
        self.media = Media("media", self, run)
        self.operations = Operations("operations", self, run)

    def summary(self) -> tuple[str, bool | None]:
        return (f"targetplugind {self.facts.get('version', '')}".strip(), None)

    def grow(self) -> None:
        self.volumes.bring({one["name"]: one for one in self.facts["volumes"]}, Volume)
        self.declared.bring({one["name"]: one for one in self.facts["groups"]}, Group)
        self.media.bring({one["name"]: one for one in self.facts["media"]}, Medium)
        listed = {str(one["id"]): one for one in self.facts["operations"]}
        self.operations.bring(listed, Operation)


class Volumes(Node):
    """/volumes"""

    def ui_command_create(
        self,
        name: str,
        size: str,
        mirror: str | None = None,
        media: str | None = None,
        policy: str | None = None,
        rights: str | None = None,
        blocks: str | None = None,
    ) -> None:
        """Makes a volume on free media: create ledger size=512M media=a,b"""
        chosen = ["--media", *media.split(",")] if media else []
        options = {"mirror": mirror, "policy": policy, "rights": rights, "blocks": blocks}
        self.run("volume", "create", name, *chosen, size=size, **options)

    def ui_command_delete(self, name: str, force: str = "no") -> None:
        """Deletes a volume; force=yes with its data and its saves."""
        self.run("volume", "delete", name, force=force)


class Offered(Node):
    """What hosts may see: a volume, or a save."""

    def ui_command_export(
        self,
        initiator: str,
        chap: str = "no",
        portal: str | None = None,
        target: str | None = None,
    ) -> None:
        """Lets hosts reach it, a save read-only: export iqn.2026-01.org.example:host chap=yes"""
        names = ["--initiator", *initiator.split(",")]
        places = ["--portal", *portal.split(",")] if portal else []
        self.run("export", self.name, *names, *places, chap=chap, target=target)

    def ui_command_unexport(self, initiator: str | None = None, force: str = "no") -> None:
        """Withdraws it from hosts, or from one."""
        self.run("unexport", self.name, initiator=initiator, force=force)


class Volume(Offered):
    """/volumes/<name>"""

    def summary(self) -> tuple[str, bool | None]:
        good = {"serving": True, "recovering": True, "cloning": True}.get(
            self.facts["state"], False
        )
        return (f"{self.facts['state']}, generation {self.facts['generation']}", good)

    def grow(self) -> None:
        kept = {save["name"]: save for save in self.facts["saves"]}
        if not self.children:
            Saves("saves", self, self.run)
        for child in self.children:
            child.bring(kept, Save)

    def ui_command_status(self) -> None:
        """Shows all of this volume."""
        self.run("status", self.name)

    def ui_command_resize(self, size: str, rate: str | None = None, preview: str = "no") -> None:
        """Gives it more room at its end, while hosts use it: resize 2G, resize +512M"""
        self.run("volume", "resize", self.name, size=size, rate=rate, preview=preview)

    def ui_command_save(
        self,
        label: str | None = None,
        policy: str | None = None,
        onto: str | None = None,
        fill: str = "yes",
        hold: str | None = None,
        wait: str = "no",
    ) -> None:
        """Keeps the volume as it is now: save label=night hold=14d; fill=no: only what is overwritten"""
        sparse = ["--no-fill"] if fill == "no" else []
        options = {"label": label, "policy": policy, "onto": onto, "hold": hold}
        self.run("save", self.name, *sparse, **options, wait=wait)

    def ui_command_diff(self, since: str | None = None, to: str | None = None) -> None:
        """Shows what changed since the newest save, or between two: diff since=monday to=now"""
        options = {"from": since, "to": to}
        self.run("diff", self.name, **options)

    def ui_command_recover(self, force: str = "no", wait: str = "no", no_undo: str = "no") -> None:
        """Takes the newest save's content back; no_undo=yes: what it was is not kept."""
        self.run("recover", self.name, **_taken_back(force, wait, no_undo))

    def ui_command_undo(self, force: str = "no", wait: str = "no", no_undo: str = "no") -> None:
        """Takes the last recover back; no_undo=yes: what it was is not kept."""
        self.run("undo", self.name, **_taken_back(force, wait, no_undo))

    def ui_command_swap(self, force: str = "no", wait: str = "no") -> None:
        """Makes the newest save's medium the volume's data."""
        self.run("swap", self.name, force=force, wait=wait)

    def ui_command_retain(
        self,
        last: str | None = None,
        hourly: str | None = None,
        daily: str | None = None,
        weekly: str | None = None,
        monthly: str | None = None,
        off: str = "no",
        now: str = "no",
        preview: str = "no",
    ) -> None:
        """Sets which saves are kept: retain last=3 daily=7. Shows it: retain. Ends it: retain off=yes"""
        rules = {
            "last": last,
            "hourly": hourly,
            "daily": daily,
            "weekly": weekly,
            "monthly": monthly,
        }
        self.run("retain", self.name, **rules, off=off, now=now, preview=preview)

    def ui_command_restore(
        self, image: str | None = None, backup: str | None = None, onto: str | None = None
    ) -> None:
        """Brings a backup image onto a free medium: restore /backups/monday.qcow2"""
        options = {"from": image, "backup": backup, "onto": onto}
        self.run("restore", self.name, **options)

    def ui_command_set(
        self,
        policy: str | None = None,
        rights: str | None = None,
        mirror: str | None = None,
        replace_failed: str | None = None,
        replace_after: str | None = None,
    ) -> None:
        """Changes the volume's policies: set replace_failed=on"""
        options = {"policy": policy, "rights": rights, "mirror": mirror}
        options |= {"replace-failed": replace_failed, "replace-after": replace_after}
        self.run("volume", "set", self.name, **options)

    def ui_command_leg_add(self, medium: str | None = None, wait: str = "no") -> None:
        """Makes a free medium a leg: leg_add virtio-media-c"""
        self.run("leg", "add", self.name, *([medium] if medium else []), wait=wait)

    def ui_command_scrub(self, rate: str | None = None, wait: str = "no") -> None:
        """Compares the legs, and the whole saves: scrub rate=100M"""
        self.run("scrub", self.name, rate=rate, wait=wait)

    def ui_command_leg_remove(self, medium: str) -> None:
        """Takes a leg out and frees its medium: leg_remove virtio-media-b"""
        self.run("leg", "remove", self.name, medium)


class Saves(Node):
    """/volumes/<name>/saves"""

    def get_child(self, name: str) -> Node:
        """By its name, or by its label as in `ledger@night`; of two of that label the newest."""
        newest_first: list[Node] = sorted(self.children, key=lambda c: -c.facts["generation"])
        for child in newest_first:
            label = child.facts.get("label")
            if label and name in (label, f"{child.facts['volume']}@{label}"):
                return child
        found: Node = super().get_child(name)
        return found


class Save(Offered):
    """/volumes/<name>/saves/<save>"""

    def summary(self) -> tuple[str, bool | None]:
        save = self.facts
        what = [printable(save.get("label") or ""), save["fill"]]
        what += [results.uses(save)] if results.uses(save) != "idle" else []
        what += ["held"] if save.get("held_until") else []
        return (", ".join(part for part in what if part), save["fill"] != "broken")

    def ui_command_diff(self) -> None:
        """Shows what changed since this save."""
        self.run("diff", self.name)

    def ui_command_recover(self, force: str = "no", wait: str = "no", no_undo: str = "no") -> None:
        """Takes this save's content back; no_undo=yes: what the volume was is not kept."""
        self.run("recover", self.name, **_taken_back(force, wait, no_undo))

    def ui_command_swap(self, force: str = "no", wait: str = "no") -> None:
        """Makes this save's medium the volume's data."""
        self.run("swap", self.name, force=force, wait=wait)

    def ui_command_clone(self, name: str, onto: str | None = None, wait: str = "no") -> None:
        """Makes this save a volume of its own, to write to: clone test"""
        self.run("clone", self.name, name=name, onto=onto, wait=wait)

    def ui_command_resync(self, wait: str = "no") -> None:
        """Gives this save up and makes its medium a leg again."""
        self.run("resync", self.name, wait=wait)

    def ui_command_fill(self, medium: str | None = None, rate: str | None = None) -> None:
        """Makes this save, which is without fill, whole on a spare: fill medium=virtio-media-d"""
        self.run("fill", self.name, medium=medium, rate=rate)

    def ui_command_hold(
        self, time: str | None = None, until: str | None = None, force: str = "no"
    ) -> None:
        """Keeps this save from going before a time: hold 14d, or hold until=2026-12-01"""
        options = {"for": time, "until": until, "force": force}
        self.run("hold", self.name, **options)

    def ui_command_unhold(self, force: str = "no") -> None:
        """Ends the hold of this save; force=yes before it is over."""
        self.run("unhold", self.name, force=force)

    def ui_command_release(self, force: str = "no") -> None:
        """Gives this save up and frees its medium."""
        self.run("release", self.name, force=force)

    def ui_command_backup(
        self,
        path: str,
        format: str | None = None,
        label: str | None = None,
        since: str | None = None,
    ) -> None:
        """Writes this save to an image: backup /backups/tuesday.qcow2 since=ledger@monday"""
        self.run("backup", self.name, to=path, format=format, label=label, since=since)


class Groups(Node):
    """/groups"""

    def ui_command_create(self, name: str, volumes: str) -> None:
        """Lets hosts name volumes together: create books ledger,journal"""
        self.run("group", "create", name, *volumes.split(","))

    def ui_command_delete(self, name: str) -> None:
        """Takes a group back; its volumes and their saves stay."""
        self.run("group", "delete", name)


class Group(Node):
    """/groups/<name>: its volumes as one."""

    def summary(self) -> tuple[str, bool | None]:
        return (", ".join(self.facts["volumes"]), None)

    def saves(self, save: str | None) -> list[str]:
        """The save of that label, or the newest, of each volume."""
        return [f"{name}@{save}" if save else name for name in self.facts["volumes"]]

    def ui_command_save(
        self,
        label: str | None = None,
        policy: str | None = None,
        deadline: str | None = None,
        wait: str = "no",
    ) -> None:
        """Keeps the volumes as they are at one instant: save label=before-night-run"""
        options = {"label": label, "policy": policy, "deadline": deadline, "wait": wait}
        self.run("save", *self.facts["volumes"], **options)

    def ui_command_recover(
        self,
        save: str | None = None,
        deadline: str | None = None,
        force: str = "no",
        wait: str = "no",
        no_undo: str = "no",
    ) -> None:
        """Takes back the save of a label of each, at one instant, or the newest: recover before-night-run"""
        options = _taken_back(force, wait, no_undo)
        self.run("recover", *self.saves(save), deadline=deadline, **options)

    def ui_command_undo(
        self,
        deadline: str | None = None,
        force: str = "no",
        wait: str = "no",
        no_undo: str = "no",
    ) -> None:
        """Takes the last recover of all back at one instant."""
        options = _taken_back(force, wait, no_undo)
        self.run("undo", *self.facts["volumes"], deadline=deadline, **options)

    def ui_command_swap(
        self, save: str | None = None, deadline: str | None = None, force: str = "no"
    ) -> None:
        """Makes the save of a label of each its volume's data, at one instant, or the newest."""
        self.run("swap", *self.saves(save), deadline=deadline, force=force)


class Media(Node):
    """/media"""

    def ui_command_add(
        self, path: str, size: str | None = None, name: str | None = None, force: str = "no"
    ) -> None:
        """Gives a block device or a file to the subsystem: add /dev/disk/by-id/virtio-media-a"""
        self.run("media", "add", path, size=size, name=name, force=force)

    def ui_command_remove(self, medium: str, force: str = "no") -> None:
        """Takes a medium back from the subsystem."""
        self.run("media", "remove", medium, force=force)


class Medium(Node):
    """/media/<name>"""

    def summary(self) -> tuple[str, bool | None]:
        one = self.facts
        bad = one["state"] in ("failed", "missing", "stale")
        return (", ".join(part for part in (one["state"], one["use"]) if part), not bad)


class Operations(Node):
    """/operations: those that run. `list` shows those that ended, too."""

    def ui_command_list(self) -> None:
        """Shows the last operations, newest first."""
        self.run("operation", "list")


class Operation(Node):
    """/operations/<number>"""

    def summary(self) -> tuple[str, bool | None]:
        one = self.facts
        subject = one.get("save") or one.get("volume") or ""
        return (f"{one['verb']} {subject}, {one['progress']:.0%}", None)

    def ui_command_watch(self) -> None:
        """Shows progress until the operation has ended."""
        self.run("operation", "watch", self.name)

    def ui_command_abort(self) -> None:
        """Stops the operation."""
        self.run("abort", self.name)
