#!/usr/bin/python
"""These hosts, and no others, reach a volume or see a save."""

from __future__ import annotations

DOCUMENTATION = r"""
module: targetplugin_export
short_description: Let hosts reach a volume, or see a save
description:
  - Exports a volume, or a save of one read-only, to the hosts that are named.
  - A host that is not named any more is taken out, unless it is logged in; then it is kept and a warning says so.
version_added: 1.0.0
author: The authors of targetplugin
extends_documentation_fragment: targetplugin.iscsi.terminal
options:
  volume:
    description: The volume, or one of its saves as V(ledger@night).
    type: str
    required: true
  hosts:
    description: All hosts that may log in. Needed where it is to be V(present).
    type: list
    elements: dict
    suboptions:
      iqn:
        description: The host's iSCSI name.
        type: str
        required: true
      chap_user:
        description: What it logs in as; the volume's name if it is not said.
        type: str
      chap_password:
        description: What it logs in with, 12 characters or more. Without one, the host needs none. Keep it in a vault.
        type: str
  portals:
    description: Addresses to listen on; the machine's one address if it is not said.
    type: list
    elements: str
  target:
    description: The target's iSCSI name; made up if it is not said.
    type: str
  force:
    description: Take the disk away from hosts that are logged in, too.
    type: bool
    default: false
  state:
    description: Whether it is exported.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let a host log in with a password
  targetplugin.iscsi.targetplugin_export:
    volume: ledger
    hosts:
      - iqn: iqn.2026-01.org.example:host
        chap_user: night
        chap_password: "{{ vault_night_password }}"
"""

RETURN = r"""
export:
  description: The export as C(targetplugin export --json) has it, without passwords.
  type: dict
  returned: when it is exported, or would be
kept:
  description: Hosts that are not named any more and are logged in.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.targetplugin.iscsi.plugins.module_utils.terminal import (
    ARGUMENTS,
    Refused,
    Terminal,
    ends,
    option,
    options,
)


def there(terminal, name):
    """What is exported under this name now, or None."""
    volume = terminal.volume(name.partition("@")[0])
    if volume is None or "@" not in name:
        return volume and volume["export"]
    which = name.partition("@")[2]
    for save in volume["saves"]:
        if which in (save["label"], str(save["generation"])):
            return save["export"]
    return None


def shown(export):
    """An export for a diff: its place, and who may log in."""
    if export is None:
        return {"state": "absent"}
    hosts = {one["iqn"]: one.get("chap_user") for one in export["initiators"]}
    return {
        "state": "present",
        "target": export["target"],
        "portals": export["portals"],
        "hosts": hosts,
    }


def offer(module, terminal, host):
    """Lets one host in. Returns the export, and whether that is new."""
    asked = module.params
    words = ["export", asked["volume"], "--initiator", host["iqn"]]
    words += [*options("--portal", asked["portals"]), *option("--target", asked["target"])]
    if host["chap_password"] is not None:
        user = host["chap_user"] or asked["volume"]
        words += ["--chap-user", user, "--chap-password-file", "-"]
    typed = None if host["chap_password"] is None else host["chap_password"] + "\n"
    try:
        export = terminal.ask(*words, "--preview", typed=typed)
    except Refused as refused:
        # In check mode the volume may be what an earlier task would have made.
        if module.check_mode and refused.reason == "not_found":
            return None, True
        module.fail_json(msg=str(refused), reason=refused.reason)
    if export["changed"] and not module.check_mode:
        export = terminal.do(*words, typed=typed)
    return export, export["changed"]


def take_out(module, terminal, leaving):
    """Takes hosts out that are not named any more. Returns those that had to stay."""
    kept = []
    words = option("--force", module.params["force"]) + option("--preview", module.check_mode)
    for iqn in leaving:
        try:
            terminal.ask("unexport", module.params["volume"], "--initiator", iqn, *words)
        except Refused as refused:
            if refused.reason != "hosts":
                module.fail_json(msg=str(refused), reason=refused.reason)
            module.warn(
                f"{iqn} may go on using {module.params['volume']}: it is logged in. Log it out there first."
            )
            kept.append(iqn)
    return kept


def present(module, terminal):
    asked = module.params
    old = there(terminal, asked["volume"])
    changed, export = False, None
    for host in asked["hosts"]:
        export, new = offer(module, terminal, host)
        changed = changed or new
    wanted = [host["iqn"] for host in asked["hosts"]]
    leaving = [
        one["iqn"] for one in (old or {"initiators": []})["initiators"] if one["iqn"] not in wanted
    ]
    kept = take_out(module, terminal, leaving)
    changed = changed or len(leaving) > len(kept)
    if not module.check_mode:
        export = there(terminal, asked["volume"])
    after = shown(export)
    if module.check_mode:
        users = {
            h["iqn"]: h["chap_password"] and (h["chap_user"] or asked["volume"])
            for h in asked["hosts"]
        }
        before_hosts = shown(old).get("hosts", {})
        after = {
            **after,
            "state": "present",
            "hosts": {**{iqn: before_hosts[iqn] for iqn in kept}, **users},
        }
    ends(module, changed, shown(old), after, kept=kept, **({"export": export} if export else {}))


def absent(module, terminal):
    asked = module.params
    old = there(terminal, asked["volume"])
    if old is not None:
        words = option("--force", asked["force"]) + option("--preview", module.check_mode)
        terminal.do("unexport", asked["volume"], *words)
    ends(module, old is not None, shown(old), shown(None), kept=[])


def main():
    host = {
        "iqn": {"type": "str", "required": True},
        "chap_user": {"type": "str"},
        "chap_password": {"type": "str", "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "volume": {"type": "str", "required": True},
            "hosts": {"type": "list", "elements": "dict", "options": host},
            "portals": {"type": "list", "elements": "str"},
            "target": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["hosts"])],
        supports_check_mode=True,
    )
    {"present": present, "absent": absent}[module.params["state"]](module, Terminal(module))


if __name__ == "__main__":
    main()
