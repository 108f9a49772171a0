#!/usr/bin/python
"""Volumes are declared as a group, or are not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: targetplugin_group
short_description: Declare volumes that hosts may save and take back together
description:
  - Declares which volumes belong together. Volumes and their saves are not touched.
version_added: 1.0.0
author: The authors of targetplugin
extends_documentation_fragment: targetplugin.iscsi.terminal
options:
  name:
    description: The group's name.
    type: str
    required: true
  volumes:
    description: Its volumes, all of them. Needed where it is to be V(present).
    type: list
    elements: str
  state:
    description: Whether it is declared.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The books are two volumes
  targetplugin.iscsi.targetplugin_group:
    name: books
    volumes: [ledger, journal]
"""

RETURN = r"""
group:
  description: The group as C(targetplugin group list --json) has it.
  type: dict
  returned: when it is declared
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.targetplugin.iscsi.plugins.module_utils.terminal import (
    ARGUMENTS,
    Terminal,
    ends,
    named,
)


def main():
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "name": {"type": "str", "required": True},
            "volumes": {"type": "list", "elements": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["volumes"])],
        supports_check_mode=True,
    )
    asked, terminal = module.params, Terminal(module)
    name = asked["name"]
    group = named(name, terminal.do("group", "list"))
    before = {"volumes": sorted(group["volumes"])} if group else {}
    after = {"volumes": sorted(asked["volumes"])} if asked["state"] == "present" else {}
    if before != after and not module.check_mode:
        if group:
            terminal.do("group", "delete", name)
        if after:
            terminal.do("group", "create", name, *asked["volumes"])
        group = named(name, terminal.do("group", "list"))
    more = {"group": group} if group and asked["state"] == "present" else {}
    ends(module, before != after, before, after, **more)


if __name__ == "__main__":
    main()
