"""The daemon: makes the parts, wires them, tells systemd that it is ready, ends cleanly on SIGTERM.

Composition only; every decision is a part's.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import sdnotify

from targetplugin import __version__, logs
from targetplugin.catalog import Catalog
from targetplugin.control.server import Server
from targetplugin.engine import Command, Engine, Event
from targetplugin.errors import Refused
from targetplugin.hooks.remote import RemoteRunner
from targetplugin.kernel.hotplug import DiskChange, Hotplug, RingChange
from targetplugin.kernel.lio import Lio
from targetplugin.kernel.remote import RemoteLio, RemoteRings, Service
from targetplugin.kernel.restore import Keeper
from targetplugin.kernel.tcmu_events import Made, Resized, TcmuEvents
from targetplugin.media.by_path import done_by
from targetplugin.media.remote import RemoteFiles
from targetplugin.metrics.server import Metrics
from targetplugin.qemu import running
from targetplugin.qemu.remote import Images
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.subsystem import Subsystem

STATE_DIR = "/var/lib/targetplugin"
RUN_DIR = "/run/targetplugin"
ENGINE_THREADS = min(4, os.cpu_count() or 1)
HEARTBEAT = 3.0  # seconds; the unit's WatchdogSec is a multiple of it
START_AGAIN = 2.0  # seconds: systemd starts it again at once, which is right after a crash alone

# What may be done by another program, which listens at a socket; by default this process does it.
SERVICES = {
    "lio": "have LIO changed and rings opened by the service that listens there, targetplugin-lio(8)"
    " (default: do it in this process, which needs root's rights for it)",
    "files": "have files and disks opened by targetplugin-files(8), which listens there"
    " (default: by this process, which needs rights to them)",
    "images": "have qemu-img, wipefs and sfdisk run by targetplugin-images(8), which listens there"
    " (default: as children of this process)",
    "hooks": "have hooks run by targetplugin-hooks(8), which listens there"
    " (default: in this process' name)",
}

_log = logging.getLogger("targetplugin.daemon")


class Daemon:
    """All parts, made but not started.

    Args:
        state_dir: what must survive: the catalog and the extent maps.
        run_dir: where the control socket is, and what must survive a kill, though not the machine's run.
        metrics: where Prometheus may ask for numbers, if it may.
        lio: the socket of the service that has the rights to LIO; None: this process has them.
        hooks: the socket of the service that runs hooks; None: this process does.
    """

    def __init__(
        self,
        state_dir: Path,
        run_dir: Path,
        metrics: str | None = None,
        lio: Path | None = None,
        hooks: Path | None = None,
    ) -> None:
        self._units: dict[int, LogicalUnit] = {}
        self._notes = run_dir / "unanswered"
        self._catalog = Catalog(state_dir)
        self._hotplug = Hotplug()
        self._kernel: Lio | RemoteLio = Lio()
        rings: Hotplug | RemoteRings = self._hotplug
        if lio is not None:
            service = Service(lio)
            self._kernel = RemoteLio(service, self._kernel)
            rings = RemoteRings(service, self._hotplug)
        runner = RemoteRunner(hooks) if hooks is not None else None
        self._subsystem = Subsystem(self._catalog, self._make_engine, self._kernel, rings, runner)
        self._events = TcmuEvents(self._resized, self._made)
        self._server = Server(
            self._subsystem,
            run_dir / "control.sock",
            asked_by=lambda who: self._subsystem.asked("terminal", who),
        )
        self._keeper = Keeper(self._subsystem.restore_exports, self._kernel.restoring)
        self._metrics = Metrics(metrics, self._subsystem.status) if metrics else None

    def start(self) -> None:
        """Serves what the catalog has. Exports follow LIO's own restore, which is not waited for.

        Raises:
            Refused: something that all depends on is not there.
        """
        self._subsystem.start()
        self._hotplug.watch(self._ring_changed, self._disk_changed)
        self._events.start()
        self._server.start()
        self._keeper.start()
        if self._metrics is not None:
            try:
                self._metrics.start()
            except Refused as error:  # hosts need their disks, numbers or not
                _log.error("%s (%s)", error.message, error.hint)

    def stop(self) -> None:
        """Takes no more calls, ends what runs, leaves clean records. LIO's objects stay: hosts
        wait.
        """
        if self._metrics is not None:
            self._metrics.stop()
        self._server.stop()
        self._keeper.stop()
        self._events.stop()
        self._hotplug.close()
        self._subsystem.stop()
        self._catalog.close()

    def _make_engine(self, on_event: Callable[[Event], None]) -> Engine:
        return Engine(
            ENGINE_THREADS, self._answer, on_event, on_kept=self._free_buffers, notes=self._notes
        )

    def _free_buffers(self, volume: int, command: int) -> None:
        name = self._subsystem.volume_of(volume)
        if name is not None:
            self._kernel.free_buffers(name, command)

    def _answer(self, command: Command) -> None:
        unit = self._units.get(command.volume)
        if unit is None:
            name = self._subsystem.volume_of(command.volume)
            if name is None:
                raise LookupError(f"the engine asks for volume {command.volume}, which is no more")
            verbs = self._subsystem.asked("in-band", volume=name)
            unit = self._units[command.volume] = LogicalUnit(verbs, name)
        answer = unit.execute(command.cdb, command.data_out, command.data_in_length)
        command.answer(answer.status, answer.data, answer.sense)

    def _ring_changed(self, change: RingChange) -> None:
        self._subsystem.ring_changed(change.name, change.present)
        self._keeper.poke()

    def _resized(self, event: Resized) -> None:
        self._subsystem.size_told(event.name, event.size)

    def _made(self, event: Made) -> None:
        self._subsystem.object_made(event.name)

    def _disk_changed(self, _: DiskChange) -> None:
        self._subsystem.disks_changed()


def serve(
    state_dir: Path,
    run_dir: Path,
    metrics: str | None = None,
    lio: Path | None = None,
    hooks: Path | None = None,
) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        Refused: it can't start.
    """
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    systemd = sdnotify.SystemdNotifier()
    daemon = Daemon(state_dir, run_dir, metrics, lio, hooks)
    daemon.start()
    systemd.notify("READY=1")
    _log.info("targetplugind %s serves", __version__)
    while not ending.wait(HEARTBEAT):
        systemd.notify("WATCHDOG=1")
    systemd.notify("STOPPING=1")
    daemon.stop()
    _log.info("targetplugind has ended cleanly")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="targetplugind", description=__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=__version__)
    top.add_argument("--state-dir", type=Path, default=Path(STATE_DIR), metavar="DIR")
    top.add_argument("--run-dir", type=Path, default=Path(RUN_DIR), metavar="DIR")
    text = (
        "answer Prometheus there: 127.0.0.1:PORT, [::1]:PORT or the path of a socket (default: off)"
    )
    top.add_argument("--metrics", metavar="WHERE", help=text)
    for name, text in SERVICES.items():
        top.add_argument(f"--{name}", type=Path, metavar="SOCKET", help=text)
    levels = ("debug", "info", "warning", "error")
    top.add_argument("--log-level", choices=levels, default="info")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("serve", help="serve until SIGTERM (the default)")
    show = verbs.add_parser("loop", help="show an exported volume to this machine; prints its disk")
    show.add_argument("volume")
    hide = verbs.add_parser("unloop", help="take that disk away again")
    hide.add_argument("volume")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """0: it ended as it was asked to; 1: it could not start, and the log says why."""
    options = parser().parse_args(arguments)
    if options.files is not None:
        done_by(RemoteFiles(options.files))
    if options.images is not None:
        running.run_by(Images(options.images).launch)
    logs.begin("targetplugind", options.log_level)
    try:
        if options.verb == "loop":
            print(Lio().ensure_loop(options.volume))
        elif options.verb == "unloop":
            Lio().remove_loop(options.volume)
        else:
            serve(options.state_dir, options.run_dir, options.metrics, options.lio, options.hooks)
    except Refused as error:
        _log.critical("%s%s", error.message, f" ({error.hint})" if error.hint else "")
        if "NOTIFY_SOCKET" in os.environ:
            time.sleep(START_AGAIN)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
