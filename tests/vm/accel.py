"""Whether this machine can run the lab's machines with KVM, found by booting one.

/dev/kvm being there proves nothing. The answer is kept until this machine boots anew.
"""

import json
import os
import subprocess
from pathlib import Path

from . import tsc
from .state import cache_dir, progress

PROBE_SECONDS = 20
QEMU = "qemu-system-x86_64"
# Emulated string instructions go byte by byte (erms, fsrm) or word by word (rep_good, which the kernel
# gives itself): without them memory is copied and cleared by loops, four times as fast.
TCG_WORDS = "clearcpuid=rep_good"
WAYS = {
    "kvm": ["-accel", "kvm", "-cpu", "host"],
    "tcg": ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-erms,-fsrm"],
}


def fastest(kernel: Path, initrd: Path) -> str:
    """The fastest way that works here."""
    return "kvm" if works("kvm", kernel, initrd) else "tcg"


def cpu(way: str) -> str:
    """The processor that QEMU gives a machine."""
    return WAYS[way][WAYS[way].index("-cpu") + 1]


def kernel_words(way: str) -> str:
    """What a kernel is told that runs so."""
    return f"{TCG_WORDS} {tsc.kernel_words()}" if way == "tcg" else ""


def works(name: str, kernel: Path, initrd: Path) -> bool:
    """Whether a kernel boots with that accelerator."""
    answer = known(name)
    if answer is not None:
        return answer
    answer = _boots(name, kernel, initrd)
    _answers(name).write_text(json.dumps([_question(), answer]))
    progress(f"{name} {'works' if answer else 'does not work'} here (probed by booting)")
    return answer


def known(name: str) -> bool | None:
    """What was found since this machine booted; None before the first time."""
    try:
        asked, answer = json.loads(_answers(name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return bool(answer) if asked == _question() else None


def _answers(name: str) -> Path:
    return cache_dir() / f"accel-{name}.json"


def _question() -> list[str | int]:
    return [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.getuid()]


def _boots(name: str, kernel: Path, initrd: Path) -> bool:
    if name == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
    command += ["-M", "q35", *WAYS[name], "-m", "512", "-no-reboot"]
    command += ["-kernel", str(kernel), "-initrd", str(initrd)]
    command += ["-append", "console=ttyS0 quiet panic=-1 lab.role=probe"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"the probe has booted" in done.stdout
