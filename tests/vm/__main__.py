"""The lab's commands: `python3 -m tests.vm VERB`; told in README.md.

Owns the command line and its exit codes, nothing else.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from . import box, channel, disks, machine, network, recipe, state
from .errors import LabError, Usage
from .lab import Lab

FAILED = 1
USAGE = 2
EXEC_FAILED = 255


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python3 -m tests.vm", description="Drives the lab.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    def machine_argument(sub: argparse.ArgumentParser, *, only: tuple[str, ...] = ()) -> None:
        sub.add_argument("machine", choices=only or network.MACHINES)

    up = verb("up", "boot both machines and wait until they are ready")
    up.add_argument("--keep", action="store_true", help="with the disks of the last run")
    up.add_argument(
        "--volatile-media",
        action="store_true",
        help="with media that lose in a power cut what was not flushed",
    )
    run = verb("exec", "run a command in a machine; input, output and status are the command's")
    machine_argument(run)
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    copy = verb("copy", "copy a file into a machine or out of it")
    copy.add_argument("source", metavar="FILE|MACHINE:PATH")
    copy.add_argument("destination", metavar="MACHINE:PATH|FILE")
    machine_argument(verb("power-cut", "switch a machine off at once; its disks are kept"))
    machine_argument(verb("start", "boot a machine after a power cut and wait until it is ready"))
    disk = verb("disk", "unplug, plug or slow down a medium of the target")
    machine_argument(disk, only=("target",))
    disk.add_argument("name", choices=disks.MEDIA, metavar="NAME", help=", ".join(disks.MEDIA))
    what = disk.add_mutually_exclusive_group(required=True)
    what.add_argument("--detach", action="store_true")
    what.add_argument("--attach", action="store_true")
    what.add_argument("--iops", type=int, metavar="N", help="requests a second, 0 for no limit")
    verb("down", "switch both machines off")
    verb("status", "say which machines run, and how the target's media stand")
    verb("image", "build the image if it is not in the cache")
    box = verb("box", "make a box for Vagrant of the image")
    box.add_argument(
        "file", nargs="?", type=Path, help="left out: say what the box would be called"
    )
    verb("way", "say how QEMU runs machines here, as JSON: with KVM if that works, else emulated")
    machine_argument(verb("console", "show what a machine wrote to its serial console"))
    return top


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    try:
        return act(options)
    except Usage as error:
        state.progress(str(error))
        return USAGE
    except LabError as error:
        state.progress(str(error))
        return EXEC_FAILED if options.verb == "exec" else FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def act(options: argparse.Namespace) -> int:
    lab = Lab()
    match options.verb:
        case "up":
            lab.up(keep=options.keep, volatile_media=options.volatile_media)
        case "exec":
            return execute(options.machine, options.command)
        case "copy":
            copy(lab, options.source, options.destination)
        case "power-cut":
            lab.power_cut(options.machine)
        case "start":
            lab.start(options.machine)
        case "disk":
            if options.iops is not None and options.iops < 0:
                raise Usage("--iops takes 0 or more.")
            attach = True if options.attach else False if options.detach else None
            lab.disk(options.name, attach=attach, iops=options.iops)
        case "down":
            if not lab.down():
                state.progress("no machine was running")
        case "status":
            return status(lab)
        case "image":
            print(recipe.image().directory)
        case "box":
            if options.file:
                box.build(options.file)
            else:
                print(box.name())
        case "way":
            print(json.dumps(lab.way()))
        case "console":
            sys.stdout.write(lab.console(options.machine))
    return 0


def execute(where: str, command: list[str]) -> int:
    """Runs a command with this process's own input and outputs."""
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise Usage(f"No command was given: python3 -m tests.vm exec {where} -- COMMAND...")
    talk = channel.Conversation(
        where, channel.Request(command), lambda data: write(1, data), lambda data: write(2, data)
    )
    try:
        result = talk.hold(state.run_dir(), 0, None)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    assert result is not None
    return result


def write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def copy(lab: Lab, source: str, destination: str) -> None:
    from_machine, to_machine = split(source), split(destination)
    if to_machine and not from_machine:
        if not Path(source).is_file():
            raise LabError(f"There is no file {source} to copy.")
        lab.copy_to(Path(source), *to_machine)
    elif from_machine and not to_machine:
        lab.copy_from(*from_machine, Path(destination))
    else:
        raise Usage("One side must be in a machine (target:PATH or initiator:PATH), one here.")


def split(place: str) -> tuple[str, str] | None:
    where, colon, path = place.partition(":")
    return (where, path) if colon and where in network.MACHINES else None


def status(lab: Lab) -> int:
    """Prints how the lab stands; 0 if both machines run, 1 if not."""
    for where in network.MACHINES:
        pids = machine.processes(where)
        print(f"{where:10} {'runs, process ' + str(pids[0]) if pids else 'off'}")
    for name, disk in state.load().disks.items():
        limit = f", {disk.iops} requests a second" if disk.iops else ""
        print(f"{name:10} {'plugged in' if disk.attached else 'unplugged'}{limit}")
    return 0 if all(lab.is_up(where) for where in network.MACHINES) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
