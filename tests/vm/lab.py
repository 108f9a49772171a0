"""The lab as a thing to drive from Python: what the commands and the tests have in common.

Composes the other files; owns the order in which things happen, and nothing else.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import accel, channel, dependencies, disks, machine, network, overlay, recipe, state
from .errors import LabError
from .qmp import Qmp
from .state import progress

BOOT_SECONDS = 180.0

READY = {
    # A daemon that dies again and again keeps systemd from ever ending the boot.
    "target": """
        systemctl is-system-running --wait > /dev/null &
        boot=$!
        while sleep 2; do
            [ "$(systemctl show -P NRestarts targetplugind)" -lt 4 ] || kill $boot
        done 2> /dev/null &
        { wait $boot; } 2> /dev/null
        kill $!
        udevadm settle
        for name in $MEDIA; do
            [ -e /dev/disk/by-id/virtio-$name ] || { echo "no medium $name"; exit 1; }
        done
        if command -v targetplugind > /dev/null; then
            systemctl is-active --quiet targetplugind || {
                echo "targetplugind is not active:"
                journalctl --no-pager --output=cat --lines=30 --unit=targetplugind
                exit 2
            }
        else
            echo "this checkout has no targetplugind yet, so none runs"
        fi
    """,
    "initiator": """
        systemctl is-system-running --wait > /dev/null
        systemctl is-active --quiet iscsid.socket || { echo "open-iscsi is not ready"; exit 1; }
    """,
}


@dataclass(frozen=True)
class Result:
    """What a command in a machine came to: its exit status and both outputs."""

    argv: list[str]
    returncode: int
    raw_stdout: bytes
    raw_stderr: bytes

    @property
    def stdout(self) -> str:
        return self.raw_stdout.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.raw_stderr.decode(errors="replace")


class NotReady(LabError):
    """A machine has booted, but something in it does not work; it is left on to be looked at."""


class CommandFailed(AssertionError):
    """A command in a machine that was expected to work ended with another status than 0."""

    def __init__(self, where: str, result: Result) -> None:
        said = "\n".join(filter(None, (result.stdout.strip(), result.stderr.strip())))
        super().__init__(f"{result.argv} on {where} ended with {result.returncode}:\n{said}")
        self.result = result


class Running:
    """A command in a machine that is not waited for."""

    def __init__(self, where: str, request: channel.Request, stdin: bytes) -> None:
        self._where = where
        self._argv = request.argv
        self._out, self._err = bytearray(), bytearray()
        self._outcome: int | None = None
        self._error: BaseException | None = None
        self._talk = channel.Conversation(where, request, self._out.extend, self._err.extend)
        self._thread = threading.Thread(target=self._run, args=(stdin,), daemon=True)
        self._thread.start()

    def _run(self, stdin: bytes) -> None:
        try:
            self._outcome = self._talk.hold(state.run_dir(), stdin, None)
        except BaseException as error:  # it is raised where the command is waited for
            self._error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def output_so_far(self) -> str:
        return bytes(self._out).decode(errors="replace")

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Result:
        """The command's result; TimeoutError if it still runs after so many seconds."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"{self._argv} on {self._where} still runs after {timeout} s")
        if self._error:
            raise self._error
        status = -1 if self._outcome is None else self._outcome
        result = Result(self._argv, status, bytes(self._out), bytes(self._err))
        if check and status != 0:
            raise CommandFailed(self._where, result)
        return result

    def kill(self) -> None:
        """Ends the command (SIGTERM to its process group, SIGKILL a second later)."""
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._talk.stop()
            self._thread.join(5)


class Lab:
    """The two machines of this checkout. Methods raise LabError with a sentence.

    An owned lab (tests) dies with the process that made it; another one stays until `down`.
    """

    def __init__(self, *, owned: bool = False) -> None:
        self._owned = owned

    # The machines

    def up(self, *, keep: bool = False, volatile_media: bool = False) -> None:
        """Boots both machines, with fresh disks or with those of the last run; waits for them.

        Volatile media lose in a power cut what was not flushed, until the next `up`.
        """
        with self._changing():
            began = time.monotonic()
            known = state.load()
            keep = keep and bool(known.image) and disks.are_there(network.MACHINES)
            image = recipe.image(known.image if keep else None)
            site = dependencies.disk()
            self._switch_off(network.MACHINES)
            if not keep:
                disks.make_fresh(network.MACHINES, image)
                media = {name: state.DiskState() for name in disks.MEDIA}
                known = state.State(image=image.directory.name.removeprefix("image-"), disks=media)
            known.volatile = volatile_media
            state.save(known)
            self._boot(network.MACHINES, known, image, site)
            progress(f"up in {time.monotonic() - began:.1f} s")

    def power_cut(self, where: str) -> None:
        """Switches a machine off as a power cut does; its disks keep what they had taken."""
        with self._changing():
            if not machine.kill(where):
                raise LabError(f"The {where} is off already: start it by: start {where}")

    def start(self, where: str) -> None:
        """Boots a machine that was cut off, with the disks as they were; waits for it."""
        with self._changing():
            if machine.processes(where):
                raise LabError(f"The {where} runs already.")
            known = state.load()
            if not known.image or not disks.are_there((where,)):
                raise LabError("There is no lab to start a machine of: python3 -m tests.vm up")
            self._boot((where,), known, recipe.image(known.image), dependencies.disk())

    def down(self) -> bool:
        """Switches both machines off; returns whether any was on."""
        with self._changing():
            for where in network.MACHINES:
                if machine.processes(where):
                    with contextlib.suppress(LabError, TimeoutError):
                        self.exec(where, ["sync"], timeout=5, check=False)
            return self._switch_off(network.MACHINES)

    def is_up(self, where: str) -> bool:
        """Whether a machine is switched on."""
        return bool(machine.processes(where))

    def way(self) -> dict[str, str]:
        """How machines run here: QEMU's accelerator, its processor, and words for the kernel."""
        works = accel.known("kvm")
        if works is None:
            with self._changing():
                image = recipe.image()
                draft = self._initrd(image)
                works = accel.works("kvm", image.kernel, draft)
        way = "kvm" if works else "tcg"
        words = f"{machine.KERNEL_ARGUMENTS} {accel.kernel_words(way)}"
        return {"way": way, "cpu": accel.cpu(way), "words": words}

    def console(self, where: str) -> str:
        """What a machine's kernel and systemd have written to its serial console since power-on."""
        try:
            return machine.console_log(where).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    # Commands and files

    def exec(
        self,
        where: str,
        argv: list[str],
        *,
        input: bytes | str = b"",
        timeout: float | None = 120,
        check: bool = True,
        env: dict[str, str] | None = None,
        cwd: str = "/root",
        warm: bool = False,
    ) -> Result:
        """Runs a command (no shell) in a machine and waits for it.

        `timeout` is in seconds (TimeoutError); with `check`, another status than 0 raises
        CommandFailed, an AssertionError that shows both outputs. A command that is `warm` is a
        Python program whose imports the machine has loaded by an earlier one (guest/warm.py).
        """
        out, err = bytearray(), bytearray()
        request = channel.Request(argv, env or {}, cwd, warm)
        talk = channel.Conversation(where, request, out.extend, err.extend)
        data = input.encode() if isinstance(input, str) else input
        try:
            status = talk.hold(state.run_dir(), data, timeout)
        except TimeoutError:
            said = (bytes(out) + bytes(err)).decode(errors="replace").strip()
            raise TimeoutError(f"{argv} on {where} took over {timeout} s: {said}") from None
        assert status is not None
        result = Result(argv, status, bytes(out), bytes(err))
        if check and status != 0:
            raise CommandFailed(where, result)
        return result

    def shell(self, where: str, script: str, **options: object) -> Result:
        """Runs a shell script in a machine; stops at the first command that fails."""
        return self.exec(where, ["sh", "-euc", script], **options)  # type: ignore[arg-type]

    def spawn(
        self,
        where: str,
        argv: list[str],
        *,
        input: bytes = b"",
        env: dict[str, str] | None = None,
        cwd: str = "/root",
    ) -> Running:
        """Starts a command in a machine and does not wait for it."""
        return Running(where, channel.Request(argv, env or {}, cwd), input)

    def copy_to(self, source: Path, where: str, path: str) -> None:
        """Copies a file into a machine; into a directory under its own name. Keeps its mode."""
        script = 'if [ -d "$1" ]; then set -- "$1/$2" "$2" "$3"; fi; cat > "$1"; chmod "$3" "$1"'
        mode = f"{source.stat().st_mode & 0o7777:o}"
        request = channel.Request(["sh", "-ec", script, "copy", path, source.name, mode])
        with open(source, "rb") as file:
            self._transfer(where, request, file.fileno(), lambda data: None)

    def copy_from(self, where: str, path: str, destination: Path) -> None:
        """Copies a file out of a machine; the destination appears when it is whole."""
        if destination.is_dir():
            destination = destination / Path(path).name
        draft = destination.with_name(destination.name + ".part")
        try:
            with open(draft, "wb") as file:
                request = channel.Request(["cat", "--", path])
                self._transfer(where, request, b"", lambda data: void(file.write(data)))
            draft.replace(destination)
        finally:
            draft.unlink(missing_ok=True)

    def _transfer(
        self, where: str, request: channel.Request, source: bytes | int, out: channel.Sink
    ) -> None:
        said = bytearray()
        talk = channel.Conversation(where, request, out, said.extend)
        if talk.hold(state.run_dir(), source, None) != 0:
            raise LabError(f"Copying failed on {where}: {said.decode(errors='replace').strip()}")

    # Disks

    def disk(self, name: str, *, attach: bool | None = None, iops: int | None = None) -> None:
        """Plugs a medium of the target in or out, or limits its requests a second (0 = none)."""
        if name not in disks.MEDIA:
            raise LabError(f"There is no disk {name}: the target has {', '.join(disks.MEDIA)}.")
        with self._changing():
            known = state.load()
            if not machine.processes("target"):
                raise LabError("The target is not running: python3 -m tests.vm up")
            disk = known.disks[name]
            with Qmp(machine.qmp_path("target")) as qmp:
                if attach is True and not disk.attached:
                    disks.attach(qmp, name)
                elif attach is False and disk.attached:
                    disks.detach(qmp, name)
                if attach is not None:
                    disk.attached = attach
                if iops is not None:
                    disk.iops = iops
                if disk.attached and (iops is not None or (attach and disk.iops)):
                    disks.limit(qmp, name, disk.iops)
            state.save(known)
        if attach:
            self._wait_for_disk(name)

    # How it is done

    def _wait_for_disk(self, name: str) -> None:
        """A plugged-in disk is there when udev has named it: the slot's driver takes its time."""
        wait = "for i in $(seq 200); do test -b $0 && exit; sleep 0.1; done; exit 1"
        found = self.exec("target", ["sh", "-c", wait, disks.by_id(name)], check=False)
        if found.returncode:
            raise LabError(f"{disks.by_id(name)} does not appear on the target in 20 s.")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        path = state.run_dir() / "lock"
        with state.locked(path, "waiting for another command that changes the lab"):
            yield

    def _switch_off(self, machines: tuple[str, ...]) -> bool:
        were_on = [machine.kill(where) for where in machines]
        return any(were_on)

    def _boot(
        self, machines: tuple[str, ...], known: state.State, image: recipe.Image, site: Path
    ) -> None:
        """Switches them on and waits for them; where that fails they are off, but for NotReady.

        QEMU's emulation falls over once in some hundred boots, by no fault of a guest: then they are
        booted once more.
        """
        for tries_left in (1, 0):
            try:
                return self._switch_on(machines, known, image, site)
            except NotReady:
                raise
            except BaseException as error:
                fallen = [where for where in machines if not machine.processes(where)]
                self._switch_off(machines)
                if not (tries_left and fallen and isinstance(error, LabError)):
                    raise
                progress(f"the emulator of the {' and '.join(fallen)} fell over: once more")
        return None

    def _initrd(self, image: recipe.Image) -> Path:
        draft = state.run_dir() / "initrd.new"
        draft.write_bytes(overlay.initrd(image))
        return draft.replace(state.run_dir() / "initrd")

    def _switch_on(
        self, machines: tuple[str, ...], known: state.State, image: recipe.Image, site: Path
    ) -> None:
        self._initrd(image)
        for where in machines:
            media = known.disks if where == "target" else {}
            machine.start(
                where, image, site, media, owned=self._owned, volatile_media=known.volatile
            )
        if "target" in machines:
            limited = {name: disk for name, disk in known.disks.items() if disk.iops}
            if limited:
                with Qmp(machine.qmp_path("target")) as qmp:
                    for name, disk in limited.items():
                        if disk.attached:
                            disks.limit(qmp, name, disk.iops)
        progress(f"booting {' and '.join(machines)}")
        self._wait_until_ready(machines, known)

    def _wait_until_ready(self, machines: tuple[str, ...], known: state.State) -> None:
        began = time.monotonic()
        media = " ".join(name for name, disk in known.disks.items() if disk.attached)
        waiting = {
            where: self.spawn(where, ["sh", "-c", READY[where]], env={"MEDIA": media})
            for where in machines
        }
        troubles = []
        while waiting:
            time.sleep(0.05)
            took = time.monotonic() - began
            for where in [name for name, check in waiting.items() if not check.is_running]:
                trouble = self._verdict(where, waiting.pop(where), took)
                troubles += [trouble] if trouble else []
            if took > BOOT_SECONDS:
                where = next(iter(waiting))
                tail = "\n".join(self.console(where).splitlines()[-15:])
                raise LabError(f"The {where} has not booted in {took:.0f} s. Its console:\n{tail}")
        if troubles:
            raise NotReady("\n".join(troubles))

    def _verdict(self, where: str, ready: Running, took: float) -> str | None:
        """What is wrong with a machine that has booted, or None."""
        result = ready.wait(check=False)
        said = (result.stdout + result.stderr).strip()
        if result.returncode:
            return f"The {where} has booted (and is left on), but is not ready: {said}"
        if said:
            progress(f"{where}: {said}")
        progress(f"{where} is ready after {took:.1f} s")
        return None


def void(_: object) -> None:
    """For a callback whose result nobody wants."""
