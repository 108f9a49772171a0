"""A machine as a QEMU process: started, found again, and killed.

Which machines run is read from /proc each time: a process of this user with this lab's own socket
on its command line. So no file can be wrong about it, and nothing else is ever killed.
"""

import shutil
import subprocess
import time
from pathlib import Path

from . import accel, channel, disks, network, volatile
from . import processes as running
from .errors import LabError
from .recipe import Image
from .state import CHECKOUT, DiskState, run_dir

START_SECONDS = 20.0
MEMORY = {"target": "1024", "initiator": "768"}
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=4 mitigations=off nokaslr cryptomgr.notests tsc=reliable "
    "no_timer_check net.ifnames=0 rcupdate.rcu_expedited=1 audit=0 selinux=0 apparmor=0 "
    "systemd.show_status=false systemd.log_level=warning panic=-1"
)

# QEMU outlives this process unless it is owned; what ends earlier is waited for in `kill`.
_started: list["subprocess.Popen[bytes]"] = []


def qmp_path(machine: str) -> Path:
    return run_dir() / f"{machine}.qmp"


def console_log(machine: str) -> Path:
    return run_dir() / f"{machine}.console"


def _qmp_argument(machine: str) -> str:
    return f"socket,id=qmp,path={qmp_path(machine)},server=on,wait=off"


def processes(machine: str) -> list[int]:
    """The process ids of this lab's QEMU for a machine: one, or none."""
    return running.having(_qmp_argument(machine))


def kill(machine: str) -> bool:
    """Cuts a machine's power; returns when it is off, and whether it was on."""
    was_on = running.kill(_qmp_argument(machine), f"QEMU of {machine}")
    if machine == "target":
        volatile.kill(list(disks.MEDIA))
    _started[:] = [process for process in _started if process.poll() is None]
    return was_on


def start(
    machine: str,
    image: Image,
    site: Path,
    media: dict[str, DiskState],
    *,
    owned: bool,
    volatile_media: bool = False,
) -> None:
    """Starts a machine; returns when QEMU runs, long before the guest has booted.

    An owned machine dies with the thread that started it, however that ends.
    """
    if volatile_media:
        volatile.start(list(media), owned=owned)
    initrd = run_dir() / "initrd"
    address = network.ADDRESSES[machine]
    words = f"lab.role={machine} lab.address={address}/24 systemd.hostname={machine}"
    way = accel.fastest(image.kernel, initrd)
    words += f" {accel.kernel_words(way)}"
    checkout = str(CHECKOUT).replace(",", ",,")
    command = [
        accel.QEMU,
        *("-name", f"lab-{machine}", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,vmport=off,smm=off,hpet=off,dump-guest-core=off"),
        *accel.WAYS[way],
        *("-smp", "2", "-m", MEMORY[machine]),
        *("-kernel", str(image.kernel), "-initrd", str(initrd)),
        *("-append", f"{KERNEL_ARGUMENTS} {words}"),
        *("-serial", f"file:{console_log(machine)}"),
        *("-chardev", _qmp_argument(machine), "-mon", "chardev=qmp,mode=control"),
        *disks.system_arguments(machine, site),
        *("-fsdev", f"local,id=checkout,path={checkout},security_model=none,readonly=on"),
        *("-device", "virtio-9p-pci,fsdev=checkout,mount_tag=checkout"),
        *channel.qemu_arguments(machine, run_dir()),
        *network.qemu_arguments(machine, run_dir()),
        *disks.media_arguments(media, volatile_media),
    ]
    if not shutil.which(accel.QEMU):
        raise LabError(f"{accel.QEMU} is not installed: apt-get install qemu-system-x86")
    log = run_dir() / f"{machine}.log"
    process = running.start(command, log, owned=owned)
    deadline = time.monotonic() + START_SECONDS
    while not _listens(channel.socket_path(run_dir(), machine, channel.PORTS - 1)):
        if process.poll() is not None:
            raise LabError(f"QEMU of {machine} ended at once: {log.read_text().strip()}")
        if time.monotonic() > deadline:
            raise LabError(f"QEMU of {machine} did not open its sockets in {START_SECONDS:.0f} s.")
        time.sleep(0.02)
    _started.append(process)


def _listens(path: Path) -> bool:
    """Whether a socket of that path is listened on (a file alone may be a leftover)."""
    wanted = str(path)
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if words[-1] == wanted:
            return True
    return False
