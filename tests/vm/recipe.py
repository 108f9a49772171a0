"""The image of both machines: Debian 12 with its kernel, built once and cached under its recipe.

Owns what is installed. What differs between the machines, and all that may change from day to
day, is not in the image: `overlay.py` puts it over the image at boot, `site.py` has the project's
Python dependencies.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import kernel
from .errors import LabError
from .state import cache_dir, locked, progress

SUITE = "bookworm"
PACKAGES = """
    linux-image-amd64 systemd systemd-sysv udev dbus kmod
    iproute2 procps psmisc util-linux e2fsprogs lvm2 xfsprogs
    python3 targetcli-fb python3-rtslib-fb python3-configshell-fb python3-pyudev
    open-iscsi multipath-tools fio sg3-utils libiscsi-bin sqlite3 postgresql-15
    qemu-utils liburing2 gdb strace
"""
# Before packages are configured: how PostgreSQL's makes the database that tests take a copy of.
BEFORE = r"""
mkdir -p "$1/etc/postgresql-common"
cat > "$1/etc/postgresql-common/createcluster.conf" << END
initdb_options = '--data-checksums --wal-segsize=1 --no-locale --encoding=UTF8 --no-sync'
END
"""
ROOT_SIZE = "4G"

# Leaves out of the file system tree what no lab needs, most of it drivers.
SLIM = r"""
set -eu
cd "$1"
rm -rf boot/initrd* usr/share/doc usr/share/man usr/share/locale usr/share/info var/cache/apt/*
rm -rf var/lib/apt/lists/* usr/lib/firmware
# PostgreSQL compiles nothing here: LLVM is larger than the rest of it.
rm -rf usr/lib/*/libLLVM* usr/lib/llvm* usr/lib/*/libz3* usr/lib/postgresql/*/lib/llvmjit* \
    usr/lib/postgresql/*/lib/bitcode usr/lib/systemd/system-generators/postgresql-generator
for kernel in usr/lib/modules/*; do
    cd "$kernel/kernel"
    rm -rf sound net/bluetooth net/wireless net/mac80211 net/can net/ceph fs/ocfs2 fs/gfs2
    cd drivers
    rm -rf gpu media infiniband staging iio hwmon usb isdn mtd platform bluetooth net/wireless \
        net/ethernet net/usb net/can hid input leds thunderbolt video crypto comedi mmc memstick
    cd "$OLDPWD/../../../../.."
    chroot . depmod "${kernel##*/}"
done
rm -f etc/machine-id etc/hostname etc/resolv.conf
"""


@dataclass(frozen=True)
class Image:
    """A finished image: its directory holds the three things a machine boots from."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.ext4"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def modules(self) -> list[Path]:
        """The modules that the initrd loads, in this order."""
        return sorted((self.directory / "modules").iterdir())


def recipe_hash(more: tuple[str, ...] = ()) -> str:
    """What names the image: everything that goes into it."""
    recipe = [SUITE, *PACKAGES.split(), *more, BEFORE, ROOT_SIZE, SLIM, *kernel.BOOT_MODULES]
    return hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:16]


def image(name: str | None = None, *, more: tuple[str, ...] = ()) -> Image:
    """The image of that name (default: of this recipe); builds it if it is not in the cache.

    Args:
        more: packages that it has besides.
    """
    name = name or recipe_hash(more)
    final = cache_dir() / f"image-{name}"
    if final.exists():
        return Image(final)
    if name != recipe_hash(more):
        raise LabError(f"The image {name} is not in the cache any more. Leave out --keep.")
    with locked(cache_dir() / "image.lock", "waiting for another build of the image"):
        if not final.exists():
            _build(final, more)
    return Image(final)


def _build(final: Path, more: tuple[str, ...]) -> None:
    for leftover in cache_dir().glob("building-image-*"):
        _remove(leftover)
    for tool in ("mmdebstrap", "mke2fs", "tar"):
        if not shutil.which(tool, path=_search_path()):
            raise LabError(f"{tool} is not installed: apt-get install mmdebstrap e2fsprogs tar")
    began = time.monotonic()
    progress("building the image, once (about two minutes; the log is in the cache directory)")
    work = Path(tempfile.mkdtemp(prefix="building-image-", dir=cache_dir()))
    work.chmod(0o755)
    log = cache_dir() / "image.log"
    try:
        with open(log, "wb") as output:
            _make(work, output.fileno(), more)
        shutil.rmtree(work / "scratch", ignore_errors=True)
        work.rename(final)
    except subprocess.CalledProcessError as error:
        tail = log.read_text(errors="replace").strip().splitlines()[-8:]
        said = "\n".join(tail)
        raise LabError(f"Building the image failed in {error.cmd[0]}; see {log}:\n{said}") from None
    finally:
        if work.exists():
            _remove(work)
    progress(f"image built in {time.monotonic() - began:.0f} s")


def _make(work: Path, log: int, more: tuple[str, ...]) -> None:
    tree, tar = work / "scratch" / "tree", work / "scratch" / "tree.tar"
    tree.mkdir(parents=True)
    # No mirror is named: mmdebstrap then takes the machine's own apt sources.
    packages = ",".join([*PACKAGES.split(), *more])
    command = ["mmdebstrap", "--variant=minbase", f"--include={packages}"]
    command += ["--aptopt=APT::Install-Recommends false", f"--essential-hook={BEFORE}"]
    command += [SUITE, str(tar)]
    _run(command, log)
    progress("packages installed, making the file system")
    script = 'tar -C "$1" --exclude="./dev/*" -xf "$2" && sh -c "$3" slim "$1"'
    _run(_as_root(["sh", "-c", script, "unpack", str(tree), str(tar), SLIM]), log)
    tar.unlink()
    _take_kernel(tree, work)
    make = ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "0", "-N", "65536"]
    make += ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", str(tree)]
    _run(_as_root([*make, str(work / "root.ext4"), ROOT_SIZE]), log)
    _run(_as_root(["rm", "-rf", str(tree)]), log)


def _take_kernel(tree: Path, work: Path) -> None:
    (compressed,) = (tree / "boot").glob("vmlinuz-*")
    (work / "vmlinux").write_bytes(kernel.uncompressed(compressed.read_bytes()))
    (modules_dir,) = (tree / "usr/lib/modules").iterdir()
    (work / "modules").mkdir()
    for number, module in enumerate(kernel.modules_in_order(modules_dir)):
        shutil.copyfile(module, work / "modules" / f"{number:02}-{module.name}")


def _as_root(command: list[str]) -> list[str]:
    """The same command where it may make files of other owners: as root, or in a namespace."""
    if os.geteuid() == 0:
        return command
    return ["unshare", "--user", "--map-auto", "--map-root-user", *command]


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _run(command: list[str], log: int) -> None:
    # INITRD=No keeps the kernel's package from building an initrd that nobody boots.
    environment = {**os.environ, "INITRD": "No", "PATH": _search_path(), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
    ) as process:
        try:
            status = process.wait()
        except BaseException:
            process.terminate()  # mmdebstrap then takes down what it has mounted
            raise
    if status:
        raise subprocess.CalledProcessError(status, command)


def _remove(path: Path) -> None:
    subprocess.run(_as_root(["rm", "-rf", str(path)]), check=False)
