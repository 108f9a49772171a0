"""Makes, adopts and removes LIO's objects for a volume: storage object, iSCSI export, local disk.

The only importer of rtslib. Keeps no state: it is told what should be, and brings configfs to it.
What is there already and right is not written again, so that no session is disturbed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import rtslib_fb
from msgspec import Struct
from rtslib_fb import (
    LUN,
    TPG,
    FabricModule,
    MappedLUN,
    NetworkPortal,
    NodeACL,
    RTSLibError,
    RTSRoot,
    Target,
    UserBackedStorageObject,
)

from targetplugin.errors import Reason, Refused

from . import configfs
from .addresses import check_iqn, check_portals, check_secret, format_portal, parse_portal
from .restore import restore_pending
from .tcmu import SUBTYPE, configuration, loop_wwn

log = logging.getLogger(__name__)

MAX_TRANSFER = 1 << 20  # bytes a command moves at most; block limits (VPD B0h) must not say more
DATA_AREA_MIB = 128  # 64 commands, as many as a session queues, of the largest size, twice
# Of commands' entries: room for 240 of the largest, or 6000 of the smallest. The kernel has it in memory at
# all times, 8 MiB a volume if it is not told.
RING_MIB = 1
COMMAND_TIMEOUT = 30  # seconds until LIO gives a command up that the handler does not answer
TAG = 1  # the one target portal group of a target
LUN_NUMBER = 0


class Initiator(Struct, frozen=True):
    """A host that may log in. Without a user name, without CHAP."""

    iqn: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Without the password: values end up in logs."""
        return f"Initiator(iqn={self.iqn!r}, user={self.user!r})"


class Lio:
    """The kernel's target, as far as it is ours. Methods may be called from any thread.

    Every method raises Refused with ENVIRONMENT when the kernel refuses, and with EXISTS when an
    object of that name is there which is not ours; objects that are not ours are never changed.

    Args:
        root: LIO's tree in configfs.
        restoring: whether LIO's own restore runs or is about to: then nothing is made, for it would
            be cleared away, or get in the restore's way half made.
    """

    def __init__(
        self,
        root: Path = Path("/sys/kernel/config/target"),
        restoring: Callable[[], bool] = restore_pending,
    ) -> None:
        self._root = root
        self._restoring = restoring
        self._one = threading.RLock()

    def restoring(self) -> bool:
        """Whether LIO's own restore runs or is about to."""
        return self._restoring()

    # Storage objects

    def ensure_storage_object(
        self, name: str, volume: str, size: int, serial: str, block_size: int = 512
    ) -> bool:
        """Makes or adopts the user-backed storage object `name`. True if it was made now.

        Args:
            name: the storage object's, and the volume's.
            volume: what stays the same when it is renamed: goes into the configuration string.
            size: bytes.
            block_size: bytes of a logical block: hw_block_size, of which the size is a multiple.
            serial: the unit serial, under which LIO keeps persistent reservations.
        """
        config = configuration(volume)
        with self._one, _told(f"The storage object {name}", name):
            place = self._place(name)
            if place and configfs.switch(place / "enable"):
                self._check_adoptable(place, config, size, block_size)
                with contextlib.suppress(OSError):  # once a LUN is linked it is fixed, and so left
                    configfs.write_if_other(place / "attrib" / "cmd_time_out", str(COMMAND_TIMEOUT))
                return False
            self._check_restored()
            self._prepare()
            if place:
                self._storage_object(place).delete()  # left by one who died while he made it
            # nl_reply_supported: nobody is to answer for it on netlink. tcmu-runner's library,
            # where it runs, says -ENOENT to what it does not know, and the creation would fail.
            control = (
                f"nl_reply_supported=-1,hw_block_size={block_size},max_data_area_mb={DATA_AREA_MIB}"
                f",cmd_ring_size_mb={RING_MIB}"
            )
            made = UserBackedStorageObject(
                name,
                config,
                size,
                serial,
                hw_max_sectors=MAX_TRANSFER // block_size,
                control=control,
                index=self._free_index(),
            )
            made.set_attribute("cmd_time_out", COMMAND_TIMEOUT)
            return True

    def check_made_by_name(self, name: str, size: int, block_size: int) -> None:
        """Refuses a storage object that someone else made of a volume's name, as targetcli does, where it
        can't be served as that.
        """
        with self._one, _told(f"The storage object {name}", name):
            place = self._ours(name)
            if place:
                self._check_adoptable(place, configuration(name), size, block_size)

    def storage_object(self, name: str) -> str | None:
        """The configuration (`targetplugin/<volume>`) of a storage object of ours; None: there is none."""
        return next(iter(self._configs(self._called(name))), None)

    def remove_storage_object(self, name: str) -> None:
        """Removes it with its LUNs, if it is there. Serve its ring until no LUN is left."""
        with self._one, _told(f"The storage object {name}", name):
            place = self._ours(name)
            if place:
                self._keep_dbroot()
                self._storage_object(place).delete()

    # The ring's state. The order at a start: open the uio device, open the media exclusively,
    # reset_ring, attach, unblock. A reset while another handler lives breaks the ring.

    def reset_ring(self, name: str) -> None:
        """Makes hosts wait (BUSY), and takes back what a dead handler had been given."""
        with _told(f"The ring of {name}", name):
            place = self._ours(name)
            if not place:
                raise FileNotFoundError(errno.ENOENT, "there is no such storage object")
            (place / "action" / "block_dev").write_text("1")
            (place / "action" / "reset_ring").write_text("1")

    def free_buffers(self, name: str, command: int) -> None:
        """Takes back the buffers of a command that was answered with them kept.

        What goes wrong is logged only: a ring that was reset has freed them.
        """
        place = self._place(name)
        try:
            if place:
                (place / "action" / "free_kept_buf").write_text(str(command))
        except OSError as error:
            log.warning(
                "the buffers of command %d of %s are not taken back: %s", command, name, error
            )

    def grow(self, name: str, size: int) -> None:
        """Tells the kernel how large a storage object is, where it thinks that it is smaller.

        It only shows that (targetcli): hosts' READ CAPACITY is the handler's, and so is what they are told
        of it, for the kernel itself raises no unit attention. `control` takes the size without a word to
        anyone; `attrib/dev_size` sends it to listeners on netlink first, and fails where there are none.
        """
        with _told(f"The size of {name}", name):
            place = self._ours(name)
            if not place:
                raise FileNotFoundError(errno.ENOENT, "there is no such storage object")
            _grow(place, size)

    def unblock(self, name: str) -> None:
        """Lets the commands of hosts into the ring."""
        with _told(f"The ring of {name}", name):
            place = self._ours(name)
            if not place:
                raise FileNotFoundError(errno.ENOENT, "there is no such storage object")
            (place / "action" / "block_dev").write_text("0")

    # Exports

    def ensure_export(
        self, name: str, target: str, portals: Sequence[str], initiators: Sequence[Initiator]
    ) -> bool:
        """Makes the export of storage object `name` exactly this. True if anything was changed.

        Hosts that are logged in and stay allowed notice nothing. One that is not named any more is
        logged out.
        """
        target = check_iqn(target)
        wanted = {check_iqn(host.iqn): host for host in initiators}
        places = [parse_portal(portal) for portal in portals]
        for host in wanted.values():
            if host.user or host.password:
                check_secret(host.user, host.password)
        with self._one, _told(f"The export of {name}", name):
            if self._is_so(name, target, places, wanted):
                return False
            self._check_restored()
            self._prepare()
            self._check_links(self._root / "iscsi" / target, name)
            group = TPG(Target(FabricModule("iscsi"), target), TAG)
            self._set_rules(group, wanted)
            lun = self._ensure_lun(group, name)
            for stale in list(group.node_acls):
                if stale.node_wwn not in wanted:
                    stale.delete()
            for iqn, host in wanted.items():
                self._ensure_initiator(group, lun, iqn, host, len(wanted))
            self._ensure_portals(group, places)
            if not group.enable:
                group.enable = True
            return True

    def remove_export(self, target: str) -> None:
        """Removes the target with all below it, if it is there; its hosts are logged out.

        A local disk of the same storage object goes as well.
        """
        with self._one, _told(f"The target {target}", target):
            place = self._root / "iscsi" / check_iqn(target)
            if place.is_dir():
                self._keep_dbroot()
                self._check_links(place, None)
                for loop in self._loops(self._served(target)):
                    Target(FabricModule("loopback"), loop.name, "lookup").delete()
                Target(FabricModule("iscsi"), place.name, "lookup").delete()

    def exported(self, name: str, target: str) -> bool:
        """Whether the target serves storage object `name`; cheap, so that it may be asked often."""
        group = self._root / "iscsi" / target / f"tpgt_{TAG}"
        return configfs.switch(group / "enable") and name in {
            one.name for one in self._served(target)
        }

    def standing(self, target: str) -> tuple[int, ...]:
        """Numbers that are others once any part of an export was taken away, made anew or added; none where
        it does not stand. Cheap, so that it may be asked often: rules and secrets are not looked at.
        """
        group = self._root / "iscsi" / target / f"tpgt_{TAG}"
        try:
            if not configfs.switch(group / "enable"):
                return ()
            lun = group / "lun" / f"lun_{LUN_NUMBER}"
            links = [one for one in lun.iterdir() if one.is_symlink()]
            parts = [group, *links, *(group / "np").iterdir(), *(group / "acls").iterdir()]
            return tuple(sorted(one.stat().st_ino for one in parts))
        except OSError:
            return ()

    def portals(self, named: Sequence[str] | None) -> list[str]:
        """See addresses.check_portals."""
        return check_portals(named)

    def logged_in(self, target: str) -> set[str]:
        """The names of the initiators with a session on `target`.

        A local disk of the same storage object is a host too: its `naa.` name stands for it.
        """
        acls = self._root / "iscsi" / target / f"tpgt_{TAG}" / "acls"
        return {
            info.parent.name
            for info in acls.glob("*/info")
            if configfs.has_session(configfs.text(info))
        } | {loop.name for loop in self._loops(self._served(target))}

    # A disk of this machine

    def ensure_loop(self, name: str, timeout: float = 20.0) -> str:
        """Shows storage object `name` to this machine through tcm_loop; the disk's node, /dev/sdX.

        Its ring must be served: the kernel asks the new disk who it is before this returns.
        """
        with self._one, _told(f"The local disk of {name}", name):
            self._prepare()
            place = self._ours(name)
            if not place:
                raise Refused(
                    Reason.NOT_FOUND,
                    f"There is no storage object {name}.",
                    object=name,
                    hint=f"It is made with the volume's export: targetplugin export {name}.",
                )
            wwn = loop_wwn(configfs.config_string(place))
            group = TPG(Target(FabricModule("loopback"), wwn), TAG)
            self._ensure_lun(group, name)
            address = configfs.text(Path(group.path) / "address")  # host:channel:target
        disks = Path(f"/sys/class/scsi_device/{address}:{LUN_NUMBER}/device/block")
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError):
                for disk in os.listdir(disks):
                    if Path("/dev", disk).exists():
                        return f"/dev/{disk}"
            time.sleep(0.05)
        raise Refused(
            Reason.ENVIRONMENT,
            f"The local disk of {name} did not appear within {timeout:.0f} s.",
            object=name,
            hint="See what `dmesg` says of it.",
        )

    def remove_loop(self, name: str) -> None:
        """Takes the local disk of `name` away, if there is one. While its ring is served."""
        with self._one, _told(f"The local disk of {name}", name):
            self._keep_dbroot()
            for place in self._loops(self._called(name)):
                Target(FabricModule("loopback"), place.name, "lookup").delete()

    # Inside

    def _prepare(self) -> None:
        """Loads what is missing, and leaves the kernel's directory of reservations where it is.

        Each rtslib prefers another one, and does not start where its own is missing.
        """
        if not self._root.is_dir():
            mounted = self._root.parent.is_dir() and os.path.ismount(self._root.parent)
            if os.geteuid() != 0:
                raise Refused(
                    Reason.ENVIRONMENT,
                    f"The kernel's target is root's, and this is user {os.geteuid()}.",
                    object=str(self._root),
                    hint="Run as root.",
                )
            if not mounted:
                raise Refused(
                    Reason.ENVIRONMENT,
                    f"The kernel's target can't be reached: no configfs is mounted at"
                    f" {self._root.parent}.",
                    object=str(self._root.parent),
                    hint="systemctl start sys-kernel-config.mount; targetplugin doctor says what"
                    " else is missing.",
                )
            rtslib_fb.utils.modprobe("target_core_mod")
        self._keep_dbroot()
        self._keep_reservations()
        if not (Path("/sys/module/target_core_user")).is_dir():
            rtslib_fb.utils.modprobe("target_core_user")

    def _keep_dbroot(self) -> None:
        """Before rtslib looks at its root, for removing too: it sets the directory whenever it does."""
        chosen = configfs.text(self._root / "dbroot")
        homes = [chosen, "/etc/rtslib-fb-target", "/etc/target"]
        RTSRoot._preferred_dbroot = next((home for home in homes if Path(home).is_dir()), chosen)

    def _keep_reservations(self) -> None:
        """Without this directory LIO refuses reservations that are to outlast a power loss (APTPL); a host
        that cannot register is told NOT READY 08h/00h.
        """
        place = Path(RTSRoot._preferred_dbroot) / "pr"
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except PermissionError:
            pass  # whoever may not look in there has a unit that has made it
        except OSError as error:
            log.warning("Persistent reservations can't be kept in %s: %s", place, error.strerror)

    def _check_restored(self) -> None:
        if self._restoring():
            raise Refused(
                Reason.ENVIRONMENT,
                "LIO restores its own configuration just now.",
                hint="Try again in a few seconds.",
            )

    def _served(self, target: str) -> list[Path]:
        """The storage objects that a target serves: one, or none."""
        lun = self._root / "iscsi" / target / f"tpgt_{TAG}" / "lun" / f"lun_{LUN_NUMBER}"
        return configfs.linked(lun)

    def _loops(self, objects: Iterable[Path]) -> list[Path]:
        """The tcm_loop targets of those of these storage objects that are ours.

        Found without looking into them: while a LUN is linked there, its directory is locked and
        the kernel waits for the answers of whoever asks here.
        """
        places = [self._root / "loopback" / loop_wwn(one) for one in self._configs(objects)]
        return [place for place in places if place.is_dir()]

    def _called(self, name: str) -> list[Path]:
        """Where a user-backed storage object of this name is, if there is one."""
        return [hba / name for hba in self._root.glob("core/user_*")]

    @staticmethod
    def _configs(objects: Iterable[Path]) -> list[str]:
        """The configurations of those of these storage objects that are ours."""
        configs = [configfs.config_string(place) for place in objects]
        return [config for config in configs if config.split("/")[0] == SUBTYPE]

    def _place(self, name: str) -> Path | None:
        return next(self._root.glob(f"core/user_*/{name}"), None)

    def _ours(self, name: str) -> Path | None:
        place = self._place(name)
        if place and configfs.config_string(place).split("/")[0] not in (SUBTYPE, ""):
            raise _foreign(name, f"the storage object {place.parent.name}/{name}")
        return place

    def _storage_object(self, place: Path) -> UserBackedStorageObject:
        # With an index rtslib asks configfs; without, its memory, which others' changes pass by.
        index = int(place.parent.name.rpartition("_")[2])
        return UserBackedStorageObject(place.name, index=index)

    def _free_index(self) -> int:
        taken = {
            int(number)
            for _, _, number in (hba.name.rpartition("_") for hba in self._root.glob("core/*_*"))
            if number.isdigit()
        }
        return next(index for index in range(len(taken) + 1) if index not in taken)

    def _check_adoptable(self, place: Path, config: str, size: int, block_size: int) -> None:
        have = configfs.config_string(place)
        remove = f"`targetcli /backstores/user:{SUBTYPE} delete {place.name}`"
        if have == configuration(place.name) != config:
            raise Refused(
                Reason.EXISTS,
                f"The storage object {place.name} was made with targetcli, and is the volume's already.",
                object=place.name,
                hint=f"Export it with targetcli; or {remove}, then export it again.",
            )
        if have.split("/")[0] == SUBTYPE and have != config:
            raise Refused(
                Reason.EXISTS,
                f"The storage object {place.name} is another volume's, which was called so too.",
                object=place.name,
                hint=f"If nothing uses it: {remove}.",
            )
        if have != config:
            raise _foreign(place.name, f"the storage object {place.parent.name}/{place.name}")
        _grow(place, size)  # it may have been restored as it was before the volume grew
        have_size = configfs.info(place, "Size")
        if have_size != str(size):
            raise Refused(
                Reason.ENVIRONMENT,
                f"The storage object {place.name} has {have_size} bytes, the volume {size}.",
                object=place.name,
                hint=f"{remove}, then export it again, or make it with size={size}.",
            )
        have_block = configfs.text(place / "attrib" / "hw_block_size")
        if have_block and have_block != str(block_size):
            raise Refused(
                Reason.ENVIRONMENT,
                f"The storage object {place.name} has blocks of {have_block} bytes, the volume of"
                f" {block_size}.",
                object=place.name,
                hint=f"{remove}, then export it again, or make it with"
                f" control=hw_block_size={block_size}.",
            )

    def _is_so(
        self,
        name: str,
        target: str,
        places: Sequence[tuple[str, int]],
        wanted: dict[str, Initiator],
    ) -> bool:
        """Whether all is as it should be, read without rtslib: it is asked again and again."""
        group = self._root / "iscsi" / target / f"tpgt_{TAG}"
        if not self.exported(name, target):
            return False
        shown = {path.name for path in (group / "np").iterdir()}
        if shown != {format_portal(*place) for place in places}:
            return False
        rules = _rules(wanted)
        if any(configfs.text(group / "attrib" / rule) != value for rule, value in rules.items()):
            return False
        admitted = {path.name for path in (group / "acls").iterdir()}
        return admitted == set(wanted) and all(
            configfs.secrets(group / "acls" / iqn / "auth") == (host.user, host.password)
            and f"lun_{LUN_NUMBER}"
            in configfs.linked_names(group / "acls" / iqn / f"lun_{LUN_NUMBER}")
            for iqn, host in wanted.items()
        )

    def _check_links(self, place: Path, name: str | None) -> None:
        """Refuses a target that serves other things than ours, or than `name`."""
        for link in place.glob("tpgt_*/lun/lun_*/*"):
            if link.is_symlink():
                served = Path(os.path.realpath(link))
                others = name is not None and served.name != name
                if others or configfs.config_string(served).split("/")[0] != SUBTYPE:
                    raise _foreign(place.name, f"the target {place.name} with {served.name}")

    def _set_rules(self, group: TPG, wanted: dict[str, Initiator]) -> None:
        for rule, value in _rules(wanted).items():
            if group.get_attribute(rule) != value:
                group.set_attribute(rule, value)

    def _ensure_lun(self, group: TPG, name: str) -> LUN:
        place = self._place(name)
        if not place:
            raise FileNotFoundError(errno.ENOENT, "there is no such storage object")
        for lun in list(group.luns):
            links = configfs.linked_names(Path(lun.path))
            if lun.lun == LUN_NUMBER and name in links:
                return lun
            lun.delete()  # left by one who died in the midst; a foreign one was refused before
        return LUN(group, LUN_NUMBER, storage_object=self._storage_object(place))

    def _ensure_initiator(
        self, group: TPG, lun: LUN, iqn: str, host: Initiator, hosts: int
    ) -> None:
        acl = NodeACL(group, iqn)
        if (acl.chap_userid, acl.chap_password) != (host.user, host.password):
            acl.chap_userid, acl.chap_password = host.user, host.password
        # Where some hosts have CHAP and some do not, the kernel (6.0 on) must be told of each.
        own_rule = Path(acl.path) / "attrib" / "authentication"
        if own_rule.exists():
            configfs.write_if_other(own_rule, "1" if host.user else "0")
        elif hosts > 1 and not host.user and group.get_attribute("authentication") == "1":
            raise Refused(
                Reason.ENVIRONMENT,
                f"This kernel can't admit {iqn} without CHAP beside hosts with CHAP.",
                object=iqn,
                hint="Give each host CHAP credentials, or none.",
            )
        mapped = Path(acl.path) / f"lun_{LUN_NUMBER}"
        if f"lun_{LUN_NUMBER}" not in configfs.linked_names(mapped):
            for old in list(acl.mapped_luns):
                old.delete()
            MappedLUN(acl, LUN_NUMBER, lun, write_protect=False)

    def _ensure_portals(self, group: TPG, places: Sequence[tuple[str, int]]) -> None:
        for portal in list(group.network_portals):
            if (portal.ip_address, portal.port) not in places:
                portal.delete()
        for address, port in places:
            try:
                NetworkPortal(group, address, port)
            except RTSLibError as error:
                where = format_portal(address, port)
                raise Refused(
                    Reason.ENVIRONMENT,
                    f"The portal {where} can't be opened: {error}.",
                    object=where,
                    hint="The address must be this machine's, and the port be free: "
                    "`ip address`, `ss -ltn`.",
                ) from error


def _grow(place: Path, size: int) -> None:
    have = configfs.info(place, "Size")
    if have.isdigit() and int(have) < size:
        (place / "control").write_text(f"dev_size={size}")


def _rules(wanted: dict[str, Initiator]) -> dict[str, str]:
    """A target portal group's attributes: nobody gets in who is not named."""
    return {
        "generate_node_acls": "0",
        "cache_dynamic_acls": "0",
        "demo_mode_write_protect": "1",
        "demo_mode_discovery": "0",
        "authentication": "1" if any(host.user for host in wanted.values()) else "0",
    }


def _foreign(name: str, what: str) -> Refused:
    return Refused(
        Reason.EXISTS,
        f"{what[0].upper()}{what[1:]} is there already and is not targetplugin's.",
        object=name,
        hint="Take another name, or remove it with targetcli.",
    )


@contextlib.contextmanager
def _told(what: str, name: str) -> Iterator[None]:
    """Turns what rtslib and the kernel raise into a refusal that says what to do."""
    try:
        yield
    except (RTSLibError, OSError) as error:
        hint = "See what `dmesg` says of it."
        if os.geteuid() != 0:
            hint = "Run as root."
        elif "modprobe" in str(error) or "module" in str(error):
            hint = (
                "The kernel needs the modules target_core_user, iscsi_target_mod and tcm_loop:"
                " targetplugin doctor says which is missing."
            )
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Refused(
            Reason.ENVIRONMENT, f"{what}: the kernel refused: {said}.", object=name, hint=hint
        ) from error
