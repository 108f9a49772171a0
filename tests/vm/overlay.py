"""The lab's own files in a machine, put over the image by the initrd at each boot.

Owns how systemd is trimmed and the channel's agent, and takes along the project's own code. Nothing
here needs a rebuild of the image.
"""

from pathlib import Path

from . import kernel, network, program
from .recipe import Image

GUEST_DIR = Path(__file__).parent / "guest"
COMMON = "overlay/common"  # in the initrd: what is put over the image of every machine

# What a machine that lives for minutes, without people at its console, can do without.
MASKED = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    systemd-tmpfiles-clean.timer e2scrub_reap.service systemd-timesyncd.service
    systemd-pstore.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
    systemd-firstboot.service systemd-machine-id-commit.service systemd-random-seed.service
    systemd-repart.service systemd-sysusers.service systemd-update-utmp.service
    systemd-update-utmp-runlevel.service systemd-logind.service systemd-user-sessions.service
    systemd-hwdb-update.service ldconfig.service systemd-journal-catalog-update.service
    systemd-update-done.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
    systemd-ask-password-wall.path systemd-ask-password-console.path systemd-remount-fs.service
    systemd-journal-flush.service systemd-tmpfiles-setup-dev.service kmod-static-nodes.service
    systemd-initctl.socket systemd-journald-audit.socket systemd-boot-system-token.service
    dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-debug.mount
    sys-kernel-tracing.mount getty.target getty-static.service getty@tty1.service
    serial-getty@ttyS0.service lvm2-monitor.service blk-availability.service
    modprobe@drm.service modprobe@fuse.service remote-fs.target cryptsetup.target
    multipathd.service multipathd.socket postgresql.service
    veritysetup.target integritysetup.target
"""
MASKED_ON = {
    "target": ["iscsid.socket", "iscsid.service", "open-iscsi.service"],
    "initiator": ["rtslib-fb-targetctl.service"],
}
GENERATORS = """
    cryptsetup fstab getty gpt-auto hibernate-resume integritysetup rc-local run system-update
    sysv veritysetup debug
"""
# They match hardware that is not there, or cost seconds of emulated time for nothing.
BLACKLIST = """
    bochs cirrus drm psmouse pcspkr i2c_i801 lpc_ich iTCO_wdt ahci libahci libata intel_rapl_msr
    intel_rapl_common aesni_intel ghash_clmulni_intel crct10dif_pclmul crc32_pclmul sha512_ssse3
    sha256_ssse3 sha1_ssse3 evdev button serio_raw sg_pt parport
"""

# Of every machine that starts from the image: the lab's, and Vagrant's (box.py).
TRIMMED = {
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
    "etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStopSec=30s\n",
    "etc/modprobe.d/lab.conf": "".join(f"blacklist {name}\n" for name in BLACKLIST.split()),
    "etc/systemd/system/systemd-udev-trigger.service.d/lab.conf": """\
[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=block --subsystem-match=net
""",
}
FILES = {
    "etc/machine-id": "6c61625f746172676574706c7567696e\n",
    "etc/systemd/system/lab-agent.service": """\
[Unit]
Description=Runs what the lab's exec channel asks for
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/python3 -IS /usr/local/lib/lab/agent.py
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Environment=HOME=/root LANG=C.UTF-8
WorkingDirectory=/root
KillMode=process
Restart=always
RestartSec=0
OOMScoreAdjust=-900
""",
    "etc/systemd/system/lab-lifetime.timer": """\
[Unit]
Description=Ends a machine that everybody has forgotten
[Timer]
OnBootSec=12h
Unit=poweroff.target
""",
}
# What packages of the image would have udev run for each disk; test_multipath.py takes the first away.
UNWANTED_RULES = ("60-multipath.rules", "55-scsi-sg3_id.rules", "58-scsi-sg3_symlink.rules")
TRIMMED_LINKS = {
    **{f"etc/udev/rules.d/{name}": "/dev/null" for name in UNWANTED_RULES},
    "etc/systemd/system/default.target": "/lib/systemd/system/multi-user.target",
}
LINKS = {
    "etc/systemd/system/sysinit.target.wants/lab-agent.service": "../lab-agent.service",
    "etc/systemd/system/timers.target.wants/lab-lifetime.timer": "../lab-lifetime.timer",
}


def initrd(image: Image) -> bytes:
    """The archive that the kernel of a lab's machine starts from: a shell, modules, and the overlay."""
    return kernel.archive(start(image, "init") + _common() + _by_role())


def start(image: Image, init: str) -> list[kernel.Entry]:
    """A shell, the modules that the image needs, and a script of `guest/` that is the first process."""
    busybox = next(Path(path) for path in ("/bin/busybox", "/usr/bin/busybox"))
    entries = [
        kernel.file("init", (GUEST_DIR / init).read_bytes(), 0o755),
        kernel.file("bin/busybox", busybox.read_bytes(), 0o755),
    ]
    tools = (
        "sh mount umount cat cp ln ls rm mkdir sleep sed insmod ip poweroff switch_root chroot grep"
    )
    entries += [kernel.link(f"bin/{tool}", "busybox") for tool in tools.split()]
    entries += [kernel.directory(path) for path in ("dev", "proc", "sys", "root")]
    for module in image.modules:
        entries.append(kernel.file(f"modules/{module.name}", module.read_bytes()))
    order = "".join(f"/modules/{module.name}\n" for module in image.modules)
    entries.append(kernel.file("modules/order", order.encode()))
    return entries


def put(root: str, files: dict[str, str], links: dict[str, str]) -> list[kernel.Entry]:
    """Files, by what is in them, and links, by where they lead, below `root`."""
    entries = [kernel.file(f"{root}/{path}", text.encode()) for path, text in files.items()]
    return entries + [kernel.link(f"{root}/{path}", to) for path, to in links.items()]


def trimmed() -> list[kernel.Entry]:
    """What makes a machine boot fast."""
    entries = put(COMMON, TRIMMED, TRIMMED_LINKS)
    entries += [_mask(COMMON, unit) for unit in MASKED.split()]
    for name in GENERATORS.split():
        path = f"{COMMON}/etc/systemd/system-generators/systemd-{name}-generator"
        entries.append(kernel.link(path, "/dev/null"))
    entries.append(kernel.file(f"{COMMON}/etc/hosts", network.hosts_file().encode()))
    for role, units in MASKED_ON.items():
        entries += [_mask(f"overlay/{role}", unit) for unit in units]
    return entries


def _common() -> list[kernel.Entry]:
    root = COMMON
    entries = trimmed() + put(root, FILES, LINKS)
    for entry in program.package():
        entries.append(kernel.Entry(f"{root}/{entry.path}", entry.mode, entry.data))
    for name in ("agent.py", "warm.py"):
        data = (GUEST_DIR / name).read_bytes()
        entries.append(kernel.file(f"{root}/usr/local/lib/lab/{name}", data))
    return entries


def _by_role() -> list[kernel.Entry]:
    entries = []
    for name, role in program.COMMANDS.items():
        if text := program.command(name):
            path = f"overlay/{role}/usr/local/bin/{name}"
            entries.append(kernel.file(path, text.encode(), 0o755))
    name = f"InitiatorName={network.INITIATOR_NAME}\n"
    path = "overlay/initiator/etc/iscsi/initiatorname.iscsi"
    entries.append(kernel.file(path, name.encode(), 0o600))
    return entries


def _mask(root: str, unit: str) -> kernel.Entry:
    return kernel.link(f"{root}/etc/systemd/system/{unit}", "/dev/null")
