"""Ansible's connection to the lab's machines: a command is run, a file copied, as the lab does it."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.connection import ConnectionBase

from tests.vm.errors import LabError
from tests.vm.lab import Lab

DOCUMENTATION = """
name: lab
short_description: Runs tasks in the machines of the lab
description: The host's name in the inventory is the machine's.
author: The authors of targetplugin
extends_documentation_fragment: [connection_pipelining]
"""


class Connection(ConnectionBase):
    """One to each machine. The lab must be up."""

    transport = "lab"
    has_pipelining = True

    def _connect(self):
        self._lab = Lab()
        self._where = self._play_context.remote_addr
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        argv = ["/bin/sh", "-c", cmd]
        done = self._lab.exec(self._where, argv, input=in_data or b"", timeout=300, check=False)
        return done.returncode, done.raw_stdout, done.raw_stderr

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        self._lab.copy_to(Path(in_path), self._where, out_path)

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        try:
            self._lab.copy_from(self._where, in_path, Path(out_path))
        except LabError as error:
            raise FileNotFoundError(in_path) from error

    def close(self):
        self._connected = False
