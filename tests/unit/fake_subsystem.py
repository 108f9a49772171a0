"""A subsystem in memory for the tests of its doors: fixed answers of the right shapes, calls noted.

No verb of it does anything; `refuse` makes the next call of a verb fail.
"""

from __future__ import annotations

import threading
from typing import Any

from targetplugin.errors import Reason, Refused

HOST = "iqn.2026-01.org.example:host"
TARGET = "iqn.2026-01.org.example:ledger"


def an_operation(**changed: Any) -> dict[str, Any]:
    return {
        "id": 12,
        "verb": "save",
        "volume": "ledger",
        "save": "ledger@3",
        "state": "done",
        "progress": 1.0,
        "extents_changed": 40,
        "extents_copied": 40,
        "bytes_copied": 40 * 65536,
        "bytes_total": 40 * 65536,
        "pause_ms": 3.5,
        "started": "2026-01-05T22:00:00Z",
        "ended": "2026-01-05T22:00:01Z",
        "seconds_in_force": 0.02,
        "error": None,
        "door": "terminal",
        "request": None,
        **changed,
    }


def a_save(**changed: Any) -> dict[str, Any]:
    return {
        "name": "ledger@3",
        "volume": "ledger",
        "generation": 3,
        "label": "before-night-run",
        "created": "2026-01-05T22:00:00Z",
        "fill": "whole",
        "activity": "idle",
        "media": ["virtio-media-b"],
        "percent": 100.0,
        "changed_extents": 40,
        "changed_bytes": 40 * 65536,
        "changed_percent": 0.49,
        "origin": "host",
        "slot": 1,
        "held_until": None,
        **changed,
    }


def an_export(**changed: Any) -> dict[str, Any]:
    return {
        "volume": "ledger",
        "naa": "6" + "0" * 31,
        "target": TARGET,
        "portals": ["192.0.2.1:3260"],
        "lun": 0,
        "initiators": [{"iqn": HOST, "chap_user": "night", "logged_in": True}],
        **changed,
    }


def a_volume(**changed: Any) -> dict[str, Any]:
    return {
        "name": "ledger",
        "id": 1,
        "naa": "6" + "0" * 31,
        "size": 512 << 20,
        "blocks": "512e",
        "block_size": 512,
        "physical_block_size": 4096,
        "extent_size": 65536,
        "generation": 4,
        "parent": 3,
        "state": "serving",
        "rights": "all",
        "policy": "split",
        "mirror": 2,
        "replace_failed": False,
        "replace_after": 300,
        "legs": [{"medium": "virtio-media-a", "state": "in_sync", "missed_extents": 0}],
        "saves": [a_save()],
        "changed_extents": 40,
        "operation": None,
        "export": an_export(),
        "retention": None,
        "counters": {
            "reads": 100,
            "writes": 50,
            "flushes": 5,
            "bytes_read": 100 * 4096,
            "bytes_written": 50 * 65536,
            "read_us": 100 * 500,
            "write_us": 50 * 2000,
            "read_errors": 0,
            "write_errors": 0,
        },
        **changed,
    }


def a_medium(**changed: Any) -> dict[str, Any]:
    return {
        "name": "virtio-media-a",
        "path": "/dev/disk/by-id/virtio-media-a",
        "uuid": "00" * 16,
        "size": 1 << 30,
        "data_size": (1 << 30) - (1 << 20),
        "block_size": 512,
        "state": "in use",
        "use": "leg of ledger",
        "kind": "block",
        **changed,
    }


def an_event(**changed: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "time": "2026-01-05T22:00:00.000Z",
        "door": "terminal",
        "who": "root (process 812)",
        "volume": "ledger",
        "kind": "save",
        "what": "save ledger label=night: ledger@3 done",
        "operation": 12,
        "details": {},
        **changed,
    }


def a_hook(**changed: Any) -> dict[str, Any]:
    return {
        "program": "/usr/local/sbin/tell",
        "added": "2026-01-05T22:00:00.000Z",
        "runs": 3,
        "failures": 1,
        "error": "it ended with status 1",
        "dropped": 0,
        **changed,
    }


def a_backup(**changed: Any) -> dict[str, Any]:
    return {
        "number": 1,
        "volume": "ledger",
        "path": "/backups/ledger.qcow2",
        "label": "monday",
        "format": "qcow2",
        "size": 512 << 20,
        "created": "2026-01-05T22:00:00Z",
        "fits": True,
        **changed,
    }


def a_group(**changed: Any) -> dict[str, Any]:
    return {
        "name": "books",
        "volumes": ["ledger", "journal"],
        "created": "2026-01-05T22:00:00Z",
        "why": None,
        **changed,
    }


class FakeSubsystem:
    """`calls` holds (verb, positional, named) of all calls, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.raises: dict[str, Exception] = {}
        self.answers: dict[str, Any] = {
            "media_add": a_medium(state="free", use=""),
            "media_remove": a_medium(state="removed", use=""),
            "media_list": [a_medium()],
            "volume_create": a_volume(),
            "volume_delete": a_volume(),
            "volume_adopt": a_volume(grown_by=1 << 20),
            "volume_set": a_volume(replace_failed=True),
            "volume_resize": {
                "operation": an_operation(verb="volume resize", save=None),
                "volume": "ledger",
                "size": 1 << 30,
                "before": 512 << 20,
            },
            "scrub": {
                "operation": an_operation(
                    verb="scrub",
                    save=None,
                    result={"compared": 0, "different": 0, "unreadable": 0, "list": []},
                )
            },
            "leg_add": {
                "operation": an_operation(verb="leg add", save=None),
                "medium": "virtio-media-c",
            },
            "leg_remove": {
                "operation": an_operation(verb="leg remove", save=None),
                "medium": "virtio-media-b",
            },
            "volume_list": [a_volume()],
            "volume_show": a_volume(),
            "export": an_export(changed=True),
            "unexport": an_export(initiators=[]),
            "save": {"operation": an_operation(), "save": a_save()},
            "save_group": {
                "operation": an_operation(volume="ledger, journal", save=None),
                "operations": [an_operation(), an_operation(volume="journal")],
                "saves": [a_save(), a_save(name="journal@5", volume="journal")],
            },
            "recover_group": {
                "operation": an_operation(verb="recover", volume="ledger, journal", save=None),
                "operations": [an_operation(), an_operation(volume="journal")],
                "saves": [a_save(), a_save(name="journal@5", volume="journal")],
                "undos": [
                    a_save(name="ledger@6", label="undo-12", undo=13),
                    a_save(name="journal@6", label="undo-12", volume="journal", undo=14),
                ],
                "undo_why": "",
            },
            "undo_group": {
                "operation": an_operation(verb="undo", volume="ledger, journal", save=None),
                "operations": [an_operation(), an_operation(volume="journal")],
                "saves": [a_save(), a_save(name="journal@5", volume="journal")],
                "undos": [],
                "undo_why": "there is no free medium of 512 MiB or more",
                "undone": 11,
            },
            "swap_group": {
                "operation": an_operation(verb="swap", volume="ledger, journal", save=None),
                "operations": [an_operation(), an_operation(volume="journal")],
                "saves": [a_save(name="ledger@6"), a_save(name="journal@6", volume="journal")],
            },
            "group_create": a_group(),
            "group_delete": a_group(),
            "group_list": [a_group()],
            "diff": {
                "volume": "ledger",
                "from": "ledger@3",
                "to": 4,
                "between": ["ledger@3", "now"],
                "extent_size": 65536,
                "extents": 3,
                "bytes": 3 * 65536,
                "list": [
                    {"offset": 0, "length": 65536},
                    {"offset": 1 << 20, "length": 2 * 65536},
                ],
            },
            "recover": {"operation": an_operation(verb="recover"), "save": a_save()},
            "undo": {
                "operation": an_operation(verb="undo", save="ledger@5"),
                "save": a_save(name="ledger@5", label="undo-11", undo=11),
                "undone": 11,
                "undo": None,
                "undo_why": "there is no free medium of 512 MiB or more",
            },
            "restore": {
                "operation": an_operation(verb="restore", save="ledger@5"),
                "save": a_save(name="ledger@5", origin="image"),
            },
            "swap": {"operation": an_operation(verb="swap"), "save": a_save(name="ledger@4")},
            "clone": {
                "operation": an_operation(verb="clone", volume="test", save=None),
                "volume": a_volume(name="test", clone_of="ledger@3", saves=[], export=None),
            },
            "resync": {"operation": an_operation(verb="resync"), "save": a_save()},
            "release": {"operation": an_operation(verb="release"), "save": a_save()},
            "fill": {"operation": an_operation(verb="fill"), "save": a_save()},
            "hold": {"save": a_save(held_until="2026-12-01T00:00:00.000Z")},
            "unhold": {"save": a_save()},
            "holds": [a_save(held_until="2026-12-01T00:00:00.000Z")],
            "retain": {
                "volume": "ledger",
                "rules": {"last": 1, "daily": 7, "keep_labelled": True},
                "kept": [
                    {
                        "name": "ledger@3",
                        "label": "night",
                        "created": "2026-01-05T22:00:00.000Z",
                        "why": ["last 1 of 1", "daily 2026-01-05"],
                    }
                ],
                "released": [
                    {
                        "name": "ledger@2",
                        "label": "",
                        "created": "2026-01-05T21:00:00.000Z",
                        "why": [],
                    }
                ],
                "refused": [],
                "done": False,
            },
            "abort": {"operation": an_operation(state="aborted")},
            "backup": {"operation": an_operation(verb="backup"), "save": a_save()},
            "backup_register": a_backup(),
            "backup_forget": a_backup(),
            "backup_list": [a_backup()],
            "status": {
                "volumes": [a_volume()],
                "groups": [a_group()],
                "media": [a_medium(), a_medium(name="virtio-media-c", state="free", use="")],
                "operations": [],
                "version": "0.1.0",
            },
            "event_list": [an_event()],
            "event_wait": [an_event(id=8, kind="leg_stale", door="engine", who="")],
            "hook_add": a_hook(),
            "hook_remove": a_hook(),
            "hook_list": [a_hook()],
            "operation": an_operation(),
            "operations": [an_operation()],
            "operation_wait": an_operation(),
            "operation_rate": an_operation(verb="backup", state="running", rate=50 << 20),
        }
        self._lock = threading.Lock()

    def __getattr__(self, verb: str) -> Any:
        if verb not in self.__dict__["answers"]:
            raise AttributeError(verb)

        def call(*positional: Any, **named: Any) -> Any:
            with self._lock:
                self.calls.append((verb, positional, named))
                answer = self.answers[verb]
                error = self.raises.get(verb)
            if error is not None:
                raise error
            return answer() if callable(answer) else answer

        return call

    def refuse(self, verb: str, reason: Reason, message: str, **more: Any) -> None:
        self.raises[verb] = Refused(reason, message, **more)
