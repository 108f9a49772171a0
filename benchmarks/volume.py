"""A volume of this project on the lab's target, shown there as a local disk: its verbs and their results."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from tests.vm.lab import Lab

HOST = "iqn.2026-11.org.targetplugin:initiator"


class Volume:
    """Made at once; media are named as the subsystem names them.

    Attributes:
        disk: what it is on the target, by tcm_loop.
    """

    def __init__(self, lab: Lab, name: str, size_mib: int, media: Sequence[str]) -> None:
        self._lab = lab
        self.name = name
        legs = ["--mirror", str(len(media)), "--media", *media]
        targetplugin(lab, "volume", "create", name, "--size", f"{size_mib}M", *legs)
        targetplugin(lab, "export", name, "--initiator", HOST)
        self.disk = lab.exec("target", ["targetplugind", "loop", name]).stdout.strip()

    def delete(self) -> None:
        self._lab.exec("target", ["targetplugind", "unloop", self.name])
        targetplugin(self._lab, "unexport", self.name, "--force")
        targetplugin(self._lab, "volume", "delete", self.name, "--force")

    def save(self, policy: str, *, onto: str | None = None, wait: bool = True) -> dict[str, Any]:
        """Policy "sparse": without fill, onto a store."""
        how = ["--no-fill"] if policy == "sparse" else ["--policy", policy]
        return self._ask("save", *how, *(["--onto", onto] if onto else []), wait=wait)

    def recover(self, *, wait: bool = True) -> dict[str, Any]:
        # Without an undo save, which another free medium would make of it: measured is the copying back.
        return self._ask("recover", "--no-undo", wait=wait)

    def resync(self, *, wait: bool = True) -> dict[str, Any]:
        return self._ask("resync", wait=wait)

    def release(self) -> None:
        self._ask("release", "--force", wait=True)

    def operation(self, verb: str) -> dict[str, Any]:
        """The newest one of a verb."""
        found = json.loads(
            targetplugin(self._lab, "operation", "list", self.name, "--limit", "9", "--json")
        )
        return next(dict(one) for one in found if one["verb"] == verb)

    def wait(self, verb: str, seconds: float = 120) -> dict[str, Any]:
        """Until that operation has ended."""
        end = time.monotonic() + seconds
        while (found := self.operation(verb))["state"] not in ("done", "failed"):
            if time.monotonic() > end:
                raise TimeoutError(f"{verb} of {self.name} still runs: {found}")
            time.sleep(0.2)
        assert found["state"] == "done", found
        return found

    def _ask(self, verb: str, *words: str, wait: bool) -> dict[str, Any]:
        words = (*words, "--wait" if wait else "--no-wait", "--json")
        said = json.loads(targetplugin(self._lab, verb, self.name, *words))
        return dict(said["operation"])


def targetplugin(lab: Lab, *words: str) -> str:
    return lab.exec("target", ["targetplugin", *words], timeout=300).stdout


def add_media(lab: Lab, letters: str) -> list[str]:
    """Gives whole disks of the lab to the subsystem; their names there."""
    for letter in letters:
        targetplugin(lab, "media", "add", f"/dev/disk/by-id/virtio-media-{letter}", "--force")
    return [f"virtio-media-{letter}" for letter in letters]
