#!/usr/bin/python
"""A host is logged in to a target, now and after each boot, or is not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iscsi_login
short_description: Log a Linux host in to an iSCSI target
description:
  - Keeps a record of the target in open-iscsi, with what the host logs in with, and a session.
  - A session whose disk is in use (mounted, swap, part of LVM, md or dm-crypt) is never ended.
version_added: 1.0.0
author: The authors of targetplugin
options:
  target:
    description: The target's iSCSI name.
    type: str
    required: true
  portal:
    description: Where it listens, as V(192.0.2.1) or V(192.0.2.1:3260).
    type: str
    required: true
  chap_user:
    description: What the host logs in as. Needed with O(chap_password).
    type: str
  chap_password:
    description: What it logs in with. Without one, none is sent.
    type: str
  startup:
    description: Whether it is logged in at each boot.
    type: str
    choices: [automatic, manual]
    default: automatic
  state:
    description: Whether it is logged in.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Tells what would be changed, and changes nothing.
    support: full
  diff_mode:
    description: Tells how it was and how it is; never a password.
    support: full
notes:
  - What a session was logged in with stays until it is logged in again.
  - C(iscsiadm) takes the password as an argument, so others on the host may see it for a moment.
"""

EXAMPLES = r"""
- name: Log in, now and at each boot
  targetplugin.iscsi.iscsi_login:
    target: iqn.2003-01.org.linux-iscsi.target:ledger
    portal: 192.0.2.1
    chap_user: night
    chap_password: "{{ vault_night_password }}"
"""

RETURN = r"""
device:
  description: The disk's name that stays, for logical unit 0.
  type: str
  returned: when logged in
  sample: /dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2026-01.org.example:ledger-lun-0
"""

import glob
import os
import time

from ansible.module_utils.basic import AnsibleModule

NO_RECORDS = 21  # iscsiadm's status where there is nothing to list
DISK_SECONDS = 30  # in which udev names a disk
SECRETS = ("node.session.auth.password",)


class Records:
    """open-iscsi's record and session of one target at one portal."""

    def __init__(self, module):
        self._module = module
        self._program = module.get_bin_path("iscsiadm")
        if self._program is None:
            module.fail_json(
                msg="There is no iscsiadm here: install open-iscsi (the role targetplugin.iscsi.initiator does)."
            )
        self.target = module.params["target"]
        host, colon, port = module.params["portal"].rpartition(":")
        numbered = colon and port.isdigit() and not (host.count(":") and not host.endswith("]"))
        self.portal = module.params["portal"] if numbered else f"{module.params['portal']}:3260"
        self._one = ["-m", "node", "-T", self.target, "-p", self.portal]

    def _run(self, *words, empty=False):
        status, out, err = self._module.run_command([self._program, *words])
        if status and not (empty and status == NO_RECORDS):
            shown = words[: words.index("-v")] if "-v" in words else words
            said = err.strip() or out.strip()
            self._module.fail_json(msg=f"iscsiadm {' '.join(shown)} failed: {said}", rc=status)
        return "" if status else out

    def settings(self):
        """The record's settings, or None where there is no record."""
        known = self._run("-m", "node", empty=True)
        if not any(self._is_ours(line) for line in known.splitlines()):
            return None
        lines = self._run(*self._one, "-o", "show", "-S").splitlines()
        pairs = (line.partition(" = ") for line in lines if " = " in line)
        return {name: "" if value == "<empty>" else value for name, _, value in pairs}

    def session(self):
        """The number of the session, or None."""
        for line in self._run("-m", "session", empty=True).splitlines():
            _, number, rest = line.split(" ", 2)  # tcp: [3] 192.0.2.1:3260,1 IQN (non-flash)
            if self._is_ours(rest):
                return number.strip("[]")
        return None

    def _is_ours(self, line):
        place, name = line.split()[:2]
        return place.partition(",")[0] == self.portal and name == self.target

    def make(self):
        self._run(*self._one, "-o", "new")

    def set(self, name, value):
        self._run(*self._one, "-o", "update", "-n", name, "-v", value)

    def log_in(self):
        self._run(*self._one, "-l")

    def log_out(self):
        self._run(*self._one, "-u")

    def forget(self):
        self._run(*self._one, "-o", "delete")

    def disks(self):
        """Devices of the session's logical units."""
        session = f"/sys/class/iscsi_session/session{self.session()}/device"
        return [f"/dev/{os.path.basename(p)}" for p in glob.glob(f"{session}/target*/*/block/*")]

    def device(self):
        return f"/dev/disk/by-path/ip-{self.portal}-iscsi-{self.target}-lun-0"

    def wait_for_device(self):
        """Where the target is logged in but shows no disk, that is the target's matter."""
        end = time.monotonic() + DISK_SECONDS
        while not os.path.exists(self.device()) and time.monotonic() < end:
            time.sleep(0.2)


def in_use(disk):
    """Whether someone has a disk, or a part of it, to himself: a mount, swap, LVM, md, dm-crypt."""
    try:
        os.close(os.open(disk, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return True
    return False


def wanted(asked):
    """The record's settings as they are to be."""
    found = {"node.startup": asked["startup"]}
    if asked["chap_password"] is None:
        return {**found, "node.session.auth.authmethod": "None"}
    return {
        **found,
        "node.session.auth.authmethod": "CHAP",
        "node.session.auth.username": asked["chap_user"],
        "node.session.auth.password": asked["chap_password"],
    }


def shown(settings, session):
    """For a diff."""
    if settings is None:
        return {"state": "absent"}
    plain = {name: value for name, value in settings.items() if name not in SECRETS}
    return {"logged_in": session, **plain}


def present(module, records):
    settings = wanted(module.params)
    old, session = records.settings(), records.session()
    have = {name: (old or {}).get(name) for name in settings}
    changes = {name: value for name, value in settings.items() if have[name] != value}
    changed = bool(changes) or session is None
    if changed and not module.check_mode:
        if old is None:
            records.make()
        for name, value in changes.items():
            records.set(name, value)
        if session is None:
            records.log_in()
    more = {}
    if session is not None or not module.check_mode:
        records.wait_for_device()
        more["device"] = records.device()
    result = {"changed": changed, **more}
    if module._diff:
        before = shown(have if old is not None else None, session is not None)
        result["diff"] = {"before": before, "after": shown(settings, True)}
    module.exit_json(**result)


def absent(module, records):
    old, session = records.settings(), records.session()
    if session is not None:
        busy = [disk for disk in records.disks() if in_use(disk)]
        if busy:
            module.fail_json(
                msg=f"{', '.join(busy)} of {records.target} is in use: unmount it, and switch off what stands on"
                " it (lsblk shows that), then log out."
            )
    if not module.check_mode:
        if session is not None:
            records.log_out()
        if records.settings() is not None:
            records.forget()
    changed = old is not None or session is not None
    before = {"state": "present" if changed else "absent"}
    module.exit_json(changed=changed, diff={"before": before, "after": {"state": "absent"}})


def main():
    module = AnsibleModule(
        argument_spec={
            "target": {"type": "str", "required": True},
            "portal": {"type": "str", "required": True},
            "chap_user": {"type": "str"},
            "chap_password": {"type": "str", "no_log": True},
            "startup": {"type": "str", "choices": ["automatic", "manual"], "default": "automatic"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_by={"chap_password": "chap_user"},
        supports_check_mode=True,
    )
    {"present": present, "absent": absent}[module.params["state"]](module, Records(module))


if __name__ == "__main__":
    main()
