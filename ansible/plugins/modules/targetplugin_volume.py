#!/usr/bin/python
"""A volume is there with these policies, or is not there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: targetplugin_volume
short_description: Make volumes that can be saved and taken back
description:
  - Makes a volume on free media, or of a disk that has data already, and keeps its policies and rules as they are declared.
  - A volume whose declared size is larger than its own grows, while hosts use it.
  - What can't be changed of a volume (its extent size, and a smaller size) fails the task where it differs.
  - Legs are never added by this module, as a save may have split one off. C(targetplugin leg add) does that.
version_added: 1.0.0
author: The authors of targetplugin
extends_documentation_fragment: targetplugin.iscsi.terminal
options:
  name:
    description: The volume's name.
    type: str
    required: true
  size:
    description: As V(512M) or V(1G). Needed for a new volume that O(adopt) does not make.
    type: str
  adopt:
    description: A disk or file with data that becomes the volume's single leg and keeps its data, where the volume is new.
    type: path
  mirror:
    description: How many legs it has, V(2) where it is not said. With O(adopt) a new volume begins with one.
    type: int
  media:
    description: Which media a new volume takes; the smallest free ones that fit if it is not said.
    type: list
    elements: str
  extent_size:
    description: The differential's unit, V(4K) to V(1M).
    type: str
  blocks:
    description:
      - Format of its logical and physical blocks, of 512 bytes, of 512 on 4096, or of 4096.
        V(512e) where it is not said, or what an adopted disk has.
    type: str
    choices: [512n, 512e, 4kn]
  policy:
    description: What a save takes, a leg or a spare.
    type: str
    choices: [split, copy]
  rights:
    description: What hosts may ask for in-band.
    type: str
    choices: [none, status, save, all]
  replace_failed:
    description: Whether spares take the place of failed legs.
    type: bool
  replace_after:
    description: How many seconds a leg may be away before.
    type: int
  retain:
    description: The rules by which saves are kept; with none of them, rules that are there are taken away.
    type: dict
    suboptions:
      last:
        description: Keep the newest so many.
        type: int
      hourly:
        description: Keep the newest of each of so many hours.
        type: int
      daily:
        description: Keep the newest of each of so many days.
        type: int
      weekly:
        description: Keep the newest of each of so many weeks.
        type: int
      monthly:
        description: Keep the newest of each of so many months.
        type: int
      keep_labelled:
        description: Keep what has a label, too.
        type: bool
        default: false
  force:
    description: Delete it although its data and its saves are lost, where it is to be V(absent); make it on media with data.
    type: bool
    default: false
  state:
    description: Whether it is there. One that was written is deleted with O(force) only, one that is exported never.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A mirrored volume that keeps a week of saves
  targetplugin.iscsi.targetplugin_volume:
    name: ledger
    size: 512M
    mirror: 2
    replace_failed: true
    retain:
      last: 3
      daily: 7
"""

RETURN = r"""
volume:
  description: The volume as C(targetplugin volume show --json) has it.
  type: dict
  returned: when it is there
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.targetplugin.iscsi.plugins.module_utils.terminal import (
    ARGUMENTS,
    Terminal,
    ends,
    option,
    options,
)

POLICIES = ("policy", "rights", "mirror", "replace_failed", "replace_after")
COUNTS = ("last", "hourly", "daily", "weekly", "monthly")


def bytes_of(module, name):
    """The bytes of a size that was asked for, or None."""
    text = module.params[name]
    if text is None:
        return None
    try:
        return human_to_bytes(text)
    except ValueError:
        return module.fail_json(msg=f"{name}: {text!r} is no size such as 512M or 1G")


def rules_of(asked):
    """The rules as the daemon has them: those that are there; None where none are spoken of."""
    if asked["retain"] is None:
        return None
    return {name: value for name, value in asked["retain"].items() if value}


def as_declared(asked, volume):
    """Of a volume what may be declared and was."""
    found = {name: volume[name] for name in POLICIES if asked[name] is not None}
    if asked["size"] is not None:
        found["size"] = volume["size"]
    if asked["retain"] is not None:
        found["retain"] = volume["retention"] or {}
    return found


def check_fixed(module, volume):
    """Fails where a volume differs in what can't be changed."""
    size, extent = bytes_of(module, "size"), bytes_of(module, "extent_size")
    wrong = ""
    if size is not None and size < volume["size"]:
        wrong = f"{volume['size']} bytes, more than {size}, and can't be made smaller. Leave size"
    elif extent is not None and extent != volume["extent_size"]:
        has = f"an extent size of {volume['extent_size']} bytes, not {extent}"
        wrong = f"{has}, and it can't be changed. Leave extent_size"
    blocks = module.params["blocks"]
    if not wrong and blocks is not None and blocks != volume["blocks"]:
        wrong = f"{volume['blocks']} blocks, not {blocks}, and that can't be changed. Leave blocks"
    if wrong:
        module.fail_json(
            msg=f"{volume['name']} has {wrong} as it is, or make a volume of another name and copy"
            " the data."
        )


def create(module, terminal):
    """Makes it, or tells what is missing."""
    asked = module.params
    if asked["adopt"] is None and asked["size"] is None:
        module.fail_json(msg=f"There is no volume {asked['name']}: a new one needs a size.")
    if module.check_mode:
        return None
    new = [*option("--size", bytes_of(module, "size"))]
    new += option("--extent-size", bytes_of(module, "extent_size"))
    new += option("--blocks", asked["blocks"])
    new += [*option("--policy", asked["policy"]), *option("--rights", asked["rights"])]
    if asked["adopt"] is not None:
        return terminal.do("volume", "adopt", asked["name"], asked["adopt"], *new)
    new += [*option("--mirror", asked["mirror"]), *options("--media", asked["media"])]
    return terminal.do("volume", "create", asked["name"], *new, *option("--force", asked["force"]))


def adjust(module, terminal, volume, wanted):
    """Brings the policies and rules of a volume to what is wanted."""
    have = as_declared(module.params, volume)
    if wanted.get("size", 0) > volume["size"]:
        terminal.do("volume", "resize", volume["name"], "--size", str(wanted["size"]))
    words = []
    for name in POLICIES:
        if name in wanted and wanted[name] != have[name]:
            value = (
                {True: "on", False: "off"}[wanted[name]]
                if name == "replace_failed"
                else wanted[name]
            )
            words += [f"--{name.replace('_', '-')}", str(value)]
    if words:
        terminal.do("volume", "set", volume["name"], *words)
    rules = wanted.get("retain")
    if rules is not None and rules != have["retain"]:
        words = [word for name in COUNTS for word in option(f"--{name}", rules.get(name))]
        words += option("--keep-labelled", rules.get("keep_labelled", False))
        terminal.do("retain", volume["name"], *(words or ["--off"]))


def present(module, terminal, volume):
    asked = module.params
    wanted = {name: asked[name] for name in POLICIES if asked[name] is not None}
    if asked["size"] is not None:
        wanted["size"] = bytes_of(module, "size")
    if asked["retain"] is not None:
        wanted["retain"] = rules_of(asked)
    before = {"state": "absent"}
    if volume is not None:
        check_fixed(module, volume)
        before = {"state": "present", **as_declared(asked, volume)}
    after = {"state": "present", **wanted}
    changed = before != after
    if changed:
        volume = volume or create(module, terminal)
        if volume is not None and not module.check_mode:
            adjust(module, terminal, volume, wanted)
            volume = terminal.volume(asked["name"])
    ends(module, changed, before, after, **({"volume": volume} if volume else {}))


def absent(module, terminal, volume):
    before = {"state": "present" if volume else "absent"}
    if volume is not None:
        words = option("--force", module.params["force"]) + option("--preview", module.check_mode)
        terminal.do("volume", "delete", volume["name"], *words)
    ends(module, volume is not None, before, {"state": "absent"})


def main():
    counts = {name: {"type": "int"} for name in COUNTS}
    rules = {**counts, "keep_labelled": {"type": "bool", "default": False}}
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "name": {"type": "str", "required": True},
            "size": {"type": "str"},
            "adopt": {"type": "path"},
            "mirror": {"type": "int"},
            "media": {"type": "list", "elements": "str"},
            "extent_size": {"type": "str"},
            "blocks": {"type": "str", "choices": ["512n", "512e", "4kn"]},
            "policy": {"type": "str", "choices": ["split", "copy"]},
            "rights": {"type": "str", "choices": ["none", "status", "save", "all"]},
            "replace_failed": {"type": "bool"},
            "replace_after": {"type": "int"},
            "retain": {"type": "dict", "options": rules},
            "force": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    terminal = Terminal(module)
    volume = terminal.volume(module.params["name"])
    {"present": present, "absent": absent}[module.params["state"]](module, terminal, volume)


if __name__ == "__main__":
    main()
