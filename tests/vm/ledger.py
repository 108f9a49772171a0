"""A volume that is exported to the initiator and logged in to: what most tests of the whole stand on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from . import logins
from .lab import Lab, Result

IQN = "iqn.2026-11.org.targetplugin:initiator"
MIB = 1 << 20
CHAP = {"username": "user", "password": "password"}  # iscsiadm's names, and the terminal's
# Ends a load. Its first process alone is told: a job that is interrupted with some of its completions at hand
# waits for more than there are (fio before 3.35, its pull request 1556).
END_FIO = ["pkill", "--signal", "INT", "--oldest", "--exact", "fio"]


class Ledger:
    """The volume `ledger` (or `name`) of `size` on the target, and its disk on the initiator.

    Args:
        media: letters of the lab's media.
        paths: or other devices of the target.
        blocks: format of the volume's blocks, where it is not the usual one.
    """

    def __init__(
        self,
        lab: Lab,
        media: str = "abc",
        size: str = "256M",
        *,
        paths: list[str] | None = None,
        mirror: int = 2,
        name: str = "ledger",
        blocks: str | None = None,
    ) -> None:
        self.lab = lab
        self.name = name
        self.media = "" if paths else media
        self.mirror = mirror
        for path in paths or [f"/dev/disk/by-id/virtio-media-{letter}" for letter in media]:
            self.target("media", "add", path, "--force")
        chosen = ["--blocks", blocks] if blocks else []
        self.target("volume", "create", name, "--size", size, "--mirror", str(mirror), *chosen)
        made = json.loads(self.target("export", name, "--initiator", IQN, "--chap", "--json"))
        self.iqn = made["target"]
        chap = {f"node.session.auth.{name}": made["chap"][said] for name, said in CHAP.items()}
        settings = {"node.session.auth.authmethod": "CHAP", **chap}
        logins.log_in(lab, [self.iqn], settings=settings)
        (self.disk,) = logins.disks(lab, [self.iqn])

    def close(self) -> None:
        """Leaves the target as it was found."""
        for letter in self.media:
            self.lab.disk(f"media-{letter}", attach=True)
        self.leave()
        for medium in json.loads(self.target("media", "list", "--json")):
            self.target("media", "remove", medium["name"], "--force")

    def leave(self) -> None:
        """The volume is no more; the media stay."""
        self.initiator(f"umount {self.disk} 2>/dev/null; true")
        logins.log_out(self.lab, self.iqn)
        self.target("unexport", self.name, "--force")
        self.target("volume", "delete", self.name, "--force")

    def tidy(self) -> None:
        """Ends loads, gives up all saves and has all legs: what a test that failed has left."""
        self.initiator("killall -q -9 fio; true")
        if not self.status()["saves"] and list(self.legs().values()) == ["in_sync"] * self.mirror:
            return
        self.wait(lambda: self.status()["state"] != "recovering")
        for save in self.status()["saves"]:
            if save["fill"] == "whole" and len(self.legs()) < self.mirror:
                self.target("resync", save["name"], "--wait")
            else:
                self.target("release", save["name"], "--force")
        if len(self.legs()) < self.mirror:
            self.target("save", "ledger", "--label", "leg", "--policy", "copy", "--wait")
            self.target("resync", "ledger@leg", "--wait")
        self.wait(lambda: set(self.legs().values()) == {"in_sync"})

    # --- both machines --------------------------------------------------------------------------

    def target(self, *words: str, check: bool = True) -> str:
        return self.asked(*words, check=check).stdout

    def asked(self, *words: str, check: bool = False, timeout: float = 120) -> Result:
        """What comes of a command of the terminal, whatever it ends with."""
        command = ["targetplugin", *words]
        return self.lab.exec("target", command, check=check, timeout=timeout, warm=True)

    def initiator(self, script: str, *, check: bool = True) -> str:
        return self.run(script, check=check).stdout

    def run(self, script: str, *, check: bool = False) -> Result:
        """A script on the initiator, whatever it ends with."""
        return self.lab.exec("initiator", ["sh", "-c", script], check=check, timeout=200)

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.target("status", self.name, "--json"))
        return dict(shown["volumes"][0])

    def operation(self, verb: str) -> dict[str, Any]:
        """The newest operation of a verb."""
        found = json.loads(self.target("operation", "list", "--json"))
        return next(dict(o) for o in found if o["verb"] == verb)

    def legs(self) -> dict[str, str]:
        return {
            leg["medium"].removeprefix("virtio-").removeprefix("dm-name-"): leg["state"]
            for leg in self.status()["legs"]
        }

    def spare(self) -> str:
        """The name of a medium that is free, as the lab knows it."""
        media = json.loads(self.target("media", "list", "--json"))
        return next(m["name"].removeprefix("virtio-") for m in media if m["state"] == "free")

    def wait(self, reached: Callable[[], bool], seconds: float = 60) -> float:
        """Waits until something is so; returns how long it took."""
        begin = time.monotonic()
        while not reached():
            assert time.monotonic() - begin < seconds, self.status()
            time.sleep(0.3)
        return time.monotonic() - begin

    # --- what hosts do --------------------------------------------------------------------------

    def fill(self, first_mib: int, mib: int) -> None:
        """Random bytes in a region, past all caches."""
        self.initiator(
            f"dd if=/dev/urandom of={self.disk} bs=1M seek={first_mib} count={mib} oflag=direct conv=fsync"
        )

    def scatter(self, first_mib: int, mib: int) -> None:
        """Writes every second extent (64 KiB) of a region."""
        words = [f"--offset={first_mib}M", f"--size={mib}M", "--rw=write:64k", "--bs=64k"]
        more = ["--ioengine=psync", "--direct=1", "--end_fsync=1"]
        self.initiator(
            " ".join(["fio", "--name=scatter", f"--filename={self.disk}", *words, *more])
        )

    def checksum(self, first_mib: int, mib: int) -> str:
        """Of a region, read past all caches."""
        return self.initiator(
            f"dd if={self.disk} bs=1M skip={first_mib} count={mib} iflag=direct | sha256sum"
        ).split()[0]

    def fio(
        self, seconds: int, *, first_mib: int = 128, mib: int = 48, verify: bool = True
    ) -> list[str]:
        """A load for lab.spawn: random writes in a region, read back and verified as it goes."""
        return fio(self.disk, seconds, first_mib=first_mib, mib=mib, verify=verify)

    def stamp(self, first_mib: int, mib: int) -> None:
        """Blocks that tell whether they are whole, and where they belong."""
        words = ["fio", *self._stamped(first_mib, mib), "--rw=write", "--do_verify=0"]
        clean(self.run(" ".join([*words, "--end_fsync=1"])))

    def stamped(self, seconds: int, first_mib: int, mib: int) -> list[str]:
        """A load for lab.spawn: random reads of such blocks, each of them verified."""
        more = ["--rw=randread", "--time_based", f"--runtime={seconds}"]
        return ["fio", *self._stamped(first_mib, mib), *more]

    def _stamped(self, first_mib: int, mib: int) -> list[str]:
        return [
            "--name=stamped", f"--filename={self.disk}", f"--offset={first_mib}M",
            f"--size={mib}M", "--bs=4k", "--iodepth=4", "--ioengine=libaio", "--direct=1",
            "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
        ]  # fmt: skip


def fio(
    disk: str, seconds: int, *, first_mib: int = 128, mib: int = 48, verify: bool = True
) -> list[str]:
    """See Ledger.fio."""
    more = ["--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1"] if verify else []
    return [
        "fio", "--name=load", f"--filename={disk}", f"--offset={first_mib}M",
        f"--size={mib}M", "--rw=randwrite", "--bs=4k", "--iodepth=8", "--ioengine=libaio",
        "--direct=1", "--time_based", f"--runtime={seconds}", "--verify_state_save=0", *more,
    ]  # fmt: skip


def clean(result: Result) -> None:
    """Nothing went wrong for fio: neither an I/O error nor a block that is not what was written."""
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert "err= 0" in said, said
    assert "verify:" not in said, said
