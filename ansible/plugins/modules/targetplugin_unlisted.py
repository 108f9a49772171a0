#!/usr/bin/python
"""What is not listed goes, where that is safe."""

from __future__ import annotations

DOCUMENTATION = r"""
module: targetplugin_unlisted
short_description: Take away what is not listed any more, where that is safe
description:
  - Withdraws exports to which no host is logged in, deletes volumes that were never written, and takes back media that are free.
  - Everything else that is not listed is kept, and a warning says what and why. Nothing is ever forced.
  - Exports of saves are left alone, as people make them by hand for a while.
  - Check mode looks one step ahead. What an export or a volume keeps from going is kept there, too.
version_added: 1.0.0
author: The authors of targetplugin
extends_documentation_fragment: targetplugin.iscsi.terminal
options:
  media:
    description: Paths of all media that stay.
    type: list
    elements: path
    required: true
  volumes:
    description: Names of all volumes that stay.
    type: list
    elements: str
    required: true
  exports:
    description: Names of all volumes that stay exported.
    type: list
    elements: str
    required: true
  groups:
    description: Names of all groups that stay declared.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Nothing but the ledger
  targetplugin.iscsi.targetplugin_unlisted:
    media: [/dev/disk/by-id/virtio-media-a, /dev/disk/by-id/virtio-media-b]
    volumes: [ledger]
    exports: [ledger]
    groups: []
"""

RETURN = r"""
removed:
  description: What went, as V(volume notes).
  type: list
  elements: str
  returned: always
kept:
  description: What is not listed and is there.
  type: list
  elements: dict
  returned: always
  contains:
    what:
      description: As V(volume ledger).
      type: str
    why:
      description: Why it did not go.
      type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.targetplugin.iscsi.plugins.module_utils.terminal import (
    ARGUMENTS,
    Refused,
    Terminal,
    ends,
    option,
)


def unlisted(asked, terminal):
    """What is to go, in the order in which it can: (what it is, how it is asked for)."""
    volumes = terminal.do("volume", "list")
    for group in terminal.do("group", "list"):
        if group["name"] not in asked["groups"]:
            yield f"group {group['name']}", ["group", "delete", group["name"]]
    for volume in volumes:
        if volume["export"] and volume["name"] not in asked["exports"]:
            yield f"export {volume['name']}", ["unexport", volume["name"]]
    for volume in volumes:
        if volume["name"] not in asked["volumes"]:
            yield f"volume {volume['name']}", ["volume", "delete", volume["name"]]
    stay = {os.path.realpath(path) for path in asked["media"]}
    for medium in terminal.do("media", "list"):
        if os.path.realpath(medium["path"]) not in stay:
            yield f"medium {medium['name']}", ["media", "remove", medium["name"]]


def main():
    names = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "media": {**names, "elements": "path"},
            "volumes": names,
            "exports": names,
            "groups": names,
        },
        supports_check_mode=True,
    )
    terminal = Terminal(module)
    removed, kept = [], []
    for what, words in unlisted(module.params, terminal):
        # A group has nothing that could be lost, so its verb has no preview.
        preview = option("--preview", module.check_mode and words[0] != "group")
        try:
            if preview or not module.check_mode:
                terminal.ask(*words, *preview)
            removed.append(what)
        except Refused as refused:
            kept.append({"what": what, "why": refused.message})
            module.warn(f"The {what} is not listed and is kept: {refused}")
    there = sorted(removed + [one["what"] for one in kept])
    stays = sorted(one["what"] for one in kept)
    ends(
        module, bool(removed), {"unlisted": there}, {"unlisted": stays}, removed=removed, kept=kept
    )


if __name__ == "__main__":
    main()
