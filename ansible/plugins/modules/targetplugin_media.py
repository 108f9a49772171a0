#!/usr/bin/python
"""A disk or file is a medium of the subsystem, or is none."""

from __future__ import annotations

DOCUMENTATION = r"""
module: targetplugin_media
short_description: Give disks and files to targetplugin as media
description:
  - Gives a block device or a file to the daemon as a medium, or takes a free one back.
version_added: 1.0.0
author: The authors of targetplugin
extends_documentation_fragment: targetplugin.iscsi.terminal
options:
  path:
    description: The device or file, best by a name that stays, such as one below C(/dev/disk/by-id).
    type: path
    required: true
  name:
    description: What to call it where it is new; as its path ends if it is not said.
    type: str
  size:
    description: Make a file of this size where there is none, as V(512M) or V(2G).
    type: str
  force:
    description: Take it although there is data on it, or, where it is to be V(absent), though it is missing. That data is lost.
    type: bool
    default: false
  state:
    description: Whether it is a medium. One that is in use is never taken back.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Give a disk
  targetplugin.iscsi.targetplugin_media:
    path: /dev/disk/by-id/virtio-media-a

- name: Give a file as a spare
  targetplugin.iscsi.targetplugin_media:
    path: /srv/spare.img
    name: spare
    size: 2G
"""

RETURN = r"""
medium:
  description: The medium as C(targetplugin media list --json) has it; none in check mode where it would be new.
  type: dict
  returned: when it is there
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.targetplugin.iscsi.plugins.module_utils.terminal import (
    ARGUMENTS,
    Terminal,
    ends,
    option,
)


def main():
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "path": {"type": "path", "required": True},
            "name": {"type": "str"},
            "size": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    asked, terminal = module.params, Terminal(module)
    real = os.path.realpath(asked["path"])
    found = terminal.do("media", "list")
    known = next((one for one in found if os.path.realpath(one["path"]) == real), None)
    force = option("--force", asked["force"])
    before = {"path": asked["path"], "state": "present" if known else "absent"}
    after = {**before, "state": asked["state"]}
    changed = before != after
    if changed and asked["state"] == "absent":
        preview = option("--preview", module.check_mode)
        terminal.do("media", "remove", known["name"], *force, *preview)
        known = None
    elif changed and not module.check_mode:
        new = [*option("--name", asked["name"]), *option("--size", asked["size"])]
        known = terminal.do("media", "add", asked["path"], *new, *force)
    more = {"medium": known} if known and asked["state"] == "present" else {}
    ends(module, changed, before, after, **more)


if __name__ == "__main__":
    main()
