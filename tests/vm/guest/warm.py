"""`warm.py SCRIPT SOCKET`: loads a Python program once and starts it many times.

An emulated machine takes seconds to import what a command imports, and the lab's tests run hundreds
of commands. This runs all statements of SCRIPT but its last, which are its imports; for each request
on SOCKET (JSON: argv, env, cwd; with it descriptors 0, 1 and 2) it forks, and the child runs the last
one and ends as any program does. The process number is answered first, its exit status last.
"""

import ast
import contextlib
import json
import os
import select
import signal
import socket
import sys

LONGEST = 1 << 18


def serve(path: str) -> None:
    """Returns in a child, once for each request, with all as the request wishes."""
    doors = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    doors.bind(path)
    doors.listen()
    children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: who, and who asked
    poll = select.poll()
    poll.register(doors, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                poll.unregister(fd)
                pid, asker = children.pop(fd)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                _tell(asker, status)
                asker.close()
                os.close(fd)
                continue
            asker, _ = doors.accept()
            request, fds, _, _ = socket.recv_fds(asker, LONGEST, 3)
            pid = os.fork()
            if pid == 0:
                _become(json.loads(request), fds)
                return
            for passed in fds:
                os.close(passed)
            _tell(asker, pid)
            ended = os.pidfd_open(pid)
            children[ended] = (pid, asker)
            poll.register(ended, select.POLLIN)


def _tell(asker: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it is gone, and has no use for it
        asker.send(b"%d" % number)


def _become(wish: dict[str, object], fds: list[int]) -> None:
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(wish["env"])  # type: ignore[call-overload]
    os.chdir(wish["cwd"])  # type: ignore[arg-type]
    sys.argv[:] = wish["argv"]  # type: ignore[assignment]


script, place = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)
with open(script) as file:
    program = ast.parse(file.read(), script)
last = program.body.pop()
exec(compile(program, script, "exec"))
serve(place)
exec(compile(ast.Module([last], []), script, "exec"))
