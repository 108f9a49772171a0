"""The daemon as modules ask it: a command line of `targetplugin` with --json, and its answer.

Decides nothing. Imports no package of the project's: the machine has the program, maybe not the package.
"""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "executable": {"type": "str", "default": "targetplugin"},
    "socket": {"type": "path"},
}


class Refused(Exception):
    """What was asked is not done. `reason`, `message` and `hint` are the daemon's."""

    def __init__(self, reason, message, hint=""):
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint

    def __str__(self):
        return f"{self.message}. What to do: {self.hint}" if self.hint else self.message


class Terminal:
    """Asks for a module."""

    def __init__(self, module: AnsibleModule):
        self._module = module
        self._program = module.get_bin_path(module.params["executable"])
        if self._program is None:
            module.fail_json(
                msg=f"There is no program {module.params['executable']} here: install targetplugin"
                " (the role targetplugin.iscsi.target does), or name it with `executable`."
            )

    def ask(self, *words, typed=None):
        """The result of a verb. Raises Refused; what is no answer at all fails the module."""
        command = [self._program]
        if self._module.params["socket"]:
            command += ["--socket", self._module.params["socket"]]
        command += [*words, "--json"]
        status, out, err = self._module.run_command(command, data=typed)
        try:
            answer = json.loads(out)
        except ValueError:
            self._module.fail_json(
                msg=f"{' '.join(words)} gave no answer: {err.strip() or out.strip()}", rc=status
            )
        if status:
            error = answer["error"]
            raise Refused(error["reason"], error["message"], error["hint"])
        return answer

    def do(self, *words, typed=None):
        """The same; a refusal fails the module."""
        try:
            return self.ask(*words, typed=typed)
        except Refused as refused:
            return self._module.fail_json(msg=str(refused), reason=refused.reason)

    def volume(self, name):
        """What is there of a volume, or None."""
        return named(name, self.do("volume", "list"))


def named(name, found):
    """The one of that name, or None."""
    return next((one for one in found if one["name"] == name), None)


def option(name, value):
    """An option's words: none where it is not set, the bare option where it is True."""
    if value is None or value is False:
        return []
    return [name] if value is True else [name, str(value)]


def options(name, values):
    """The words of an option that takes several."""
    return [name, *values] if values else []


def ends(module, changed, before, after, **more):
    """Ends the module with its result, with a diff where one is asked for."""
    result = {"changed": changed, **more}
    if module._diff:
        result["diff"] = {"before": before, "after": after}
    module.exit_json(**result)
