"""The lab's image, and a few packages more, as a box that Vagrant's libvirt provider starts machines from.

Owns what a box has besides the image: its own initrd, a key for ssh, how Vagrant is to start it. The
image has no boot loader, so kernel and initrd lie beside it in the box. What a machine is given when it
first boots (its network, sshd, trimmed units) is in the initrd; the project's code is not: Ansible's
roles bring that, as on any machine.
"""

import hashlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

from . import kernel, overlay, recipe
from .errors import LabError
from .machine import KERNEL_ARGUMENTS
from .state import cache_dir, progress

# What Vagrant and Ansible need in a machine, and the lab does not.
PACKAGES = ("openssh-server", "python3-apt")
FILES = {
    # Vagrant's own network; the storage network's address comes by the kernel's command line. Machines
    # of one box must not look like one to a DHCP server.
    "etc/systemd/network/eth0.network": """\
[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
""",
    "etc/ssh/sshd_config.d/box.conf": """\
PasswordAuthentication no
UsePAM no
UseDNS no
""",
    "etc/systemd/system/ssh.service.d/box.conf": "[Service]\nExecStartPre=\n",
}
LINKS = {
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": (
        "/lib/systemd/system/systemd-networkd.service"
    ),
}
VAGRANTFILE = """\
# How machines of this box are started and reached. The key is this box's own: do not publish it.
Vagrant.configure("2") do |config|
  config.vm.guest = :debian
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.ssh.username = "root"
  config.ssh.insert_key = false
  config.ssh.private_key_path = File.expand_path("key", __dir__)
  config.vm.provider :libvirt do |libvirt|
    libvirt.kernel = File.expand_path("vmlinux", __dir__)
    libvirt.initrd = File.expand_path("initrd", __dir__)
    libvirt.cmd_line = "ARGUMENTS"
  end
end
"""


def name() -> str:
    """What tells one box from another: all that goes into it, but for its key."""
    parts = [recipe.recipe_hash(PACKAGES).encode(), VAGRANTFILE.encode(), KERNEL_ARGUMENTS.encode()]
    parts += [(overlay.GUEST_DIR / "box").read_bytes()]
    parts += [entry.path.encode() + b"\0" + entry.data for entry in put("")]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def build(path: Path) -> None:
    """Makes a box file; builds the image first if it is not in the cache."""
    image = recipe.image(more=PACKAGES)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="building-box-", dir=cache_dir()) as scratch:
        folder = Path(scratch)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "box", "-f", str(folder / "key"))
        public = (folder / "key.pub").read_text()
        entries = [*overlay.start(image, "box"), *put(public)]
        (folder / "initrd").write_bytes(kernel.archive(entries))
        (folder / "vmlinux").write_bytes(image.kernel.read_bytes())
        (folder / "Vagrantfile").write_text(VAGRANTFILE.replace("ARGUMENTS", KERNEL_ARGUMENTS))
        _run("qemu-img", "convert", "-O", "qcow2", str(image.root), str(folder / "box.img"))
        gigabytes = -(-image.root.stat().st_size // (1 << 30))
        about = {"provider": "libvirt", "format": "qcow2", "virtual_size": gigabytes}
        (folder / "metadata.json").write_text(json.dumps(about))
        (folder / "name").write_text(name() + "\n")
        parts = ("metadata.json", "Vagrantfile", "vmlinux", "initrd", "key", "name", "box.img")
        _run("tar", "-C", scratch, "-cf", str(path), *parts)
    progress(f"box built in {time.monotonic() - began:.0f} s: {path}")


def put(public_key: str) -> list[kernel.Entry]:
    """What is put over the image when a machine boots for the first time."""
    entries = overlay.trimmed() + overlay.put(overlay.COMMON, FILES, LINKS)
    keys = f"{overlay.COMMON}/root/.ssh/authorized_keys"
    return [*entries, kernel.file(keys, public_key.encode(), 0o600)]


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed: tools/prepare vagrant") from None
    if done.returncode:
        raise LabError(f"The box can't be made: {command[0]} said: {done.stderr.strip()}")
