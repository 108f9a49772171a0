#!/usr/bin/python
"""A save of this label is there, or is given up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: targetplugin_save
short_description: Save volumes, several at one instant
description:
  - Keeps a volume, or several at one instant, as they are now, where no save of that label is there yet.
  - A label makes the task idempotent. To have a save of each run, put the date into it.
version_added: 1.0.0
author: The authors of targetplugin
extends_documentation_fragment: targetplugin.iscsi.terminal
options:
  volumes:
    description: The volumes.
    type: list
    elements: str
    required: true
  label:
    description: The save's label, at most 32 bytes.
    type: str
    required: true
  policy:
    description: What it takes, a leg or a spare, where it is not to be the volume's policy.
    type: str
    choices: [split, copy]
  wait:
    description: Whether to wait until the save is whole on its medium.
    type: bool
    default: false
  force:
    description: Release it though hosts' requests stand on it, where it is to be V(absent), as C(targetplugin release --force).
    type: bool
    default: false
  state:
    description: Whether it is there. An V(absent) one is released, and its medium is free.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Save two volumes at one instant, before the upgrade
  targetplugin.iscsi.targetplugin_save:
    volumes: [ledger, journal]
    label: before-upgrade

- name: The upgrade went well
  targetplugin.iscsi.targetplugin_save:
    volumes: [ledger, journal]
    label: before-upgrade
    state: absent
"""

RETURN = r"""
saves:
  description: The saves as C(targetplugin volume show --json) has them.
  type: list
  elements: dict
  returned: when they are there
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.targetplugin.iscsi.plugins.module_utils.terminal import (
    ARGUMENTS,
    Terminal,
    ends,
    named,
    option,
)


def labelled(terminal, names, label):
    """Of each volume the save of this label; volumes without one are left out."""
    found = {}
    listed = terminal.do("volume", "list")
    for name in names:
        for save in (named(name, listed) or {"saves": []})["saves"]:
            if save["label"] == label:
                found[name] = save
    return found


def main():
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "volumes": {"type": "list", "elements": "str", "required": True},
            "label": {"type": "str", "required": True},
            "policy": {"type": "str", "choices": ["split", "copy"]},
            "wait": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    asked, terminal = module.params, Terminal(module)
    names, label = asked["volumes"], asked["label"]
    have = labelled(terminal, names, label)
    missing = [name for name in names if name not in have]
    before = {"saves": [one["name"] for one in have.values()]}
    preview = option("--preview", module.check_mode)
    if asked["state"] == "absent":
        for save in have.values():
            terminal.do("release", save["name"], *option("--force", asked["force"]), *preview)
        ends(module, bool(have), before, {"saves": []})
    if missing and have:
        module.fail_json(
            msg=f"{', '.join(have)} has a save {label} already and {', '.join(missing)} has none, so they"
            " can't be of one instant. Take another label, or release that save first."
        )
    if missing:
        words = ["--label", label, *option("--policy", asked["policy"]), *preview]
        terminal.do("save", *names, *words, "--wait" if asked["wait"] else "--no-wait")
    if missing and module.check_mode:
        ends(module, True, before, {"saves": [f"{name}@{label}" for name in names]})
    have = labelled(terminal, names, label)
    after = {"saves": [one["name"] for one in have.values()]}
    ends(module, bool(missing), before, after, saves=list(have.values()))


if __name__ == "__main__":
    main()
