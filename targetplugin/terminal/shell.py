"""`targetplugin` with no verb: a shell over the tree of volumes, saves, groups, media and operations.

Commands come from a person, or from standard input as a script that ends at the first error.
Knows no verb: a command of the tree is a command line, parsed and run as one.
"""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

from configshell_fb import ConfigShell, ExecutionError

from targetplugin.control.client import ControlError
from targetplugin.terminal import errors, settings, verbs
from targetplugin.terminal.nodes import Root
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import printable

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_ANSWERS = {"yes": True, "true": True, "no": False, "false": False}
_SWITCHES = ("force", "wait", "chap", "off", "now", "preview", "no-undo")
_AS_WORDS = {"bookmarks", "cd", "ls", "pwd", "help", "exit", "set", "get"}


class Failed(ExecutionError):  # type: ignore[misc]
    """A command ended with an exit status that is not 0; why was told."""

    def __init__(self, status: int) -> None:
        super().__init__("")
        self.status = status


class Shell(ConfigShell):  # type: ignore[misc]
    """configshell with a reader of our own: its own drops what it can't read, and says nothing."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        for name, value in settings.load().items():
            self.prefs[name] = value
        self._session = session
        self._parser_of_verbs = verbs.build_parser()
        self._root = Root(self.run_verb, self)
        self.refresh()

    @property
    def ended(self) -> bool:
        return bool(self._exit)

    def remember(self) -> None:
        settings.store({name: self.prefs[name] for name in self.prefs})

    def keep_history(self) -> None:
        """Reads what was typed before, and keeps what will be."""
        import readline

        place = settings.history()
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.touch(mode=0o600)
            readline.read_history_file(place)
        except OSError:
            return
        self._cmd_history = place
        self._save_history = True

    def refresh(self) -> None:
        """Brings the tree in line with the daemon. Raises ControlError."""
        self._root.facts = self._session.call("status")
        self._root.grow()
        place: str = self._current_node.path  # type: ignore[has-type]
        while True:
            try:
                self._current_node = self._root.get_node(place)
                return
            except ValueError:  # it is gone: go up
                place = place.rpartition("/")[0] or "/"

    def run_cmdline(self, line: str) -> None:
        """Runs one command. Raises ExecutionError."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ExecutionError(f"{line!r} can't be read: {error}") from error
        if not words:
            return
        path = words.pop(0) if _is_path(words[0]) else ""
        command = words.pop(0) if words else ""
        if command == "cd" and not words and not sys.stdin.isatty():
            raise ExecutionError("cd needs a path here: its menu needs a terminal")
        values, named = [], {}
        for word in words:
            found = _NAMED.fullmatch(word)
            if found:
                named[found[1]] = found[2]
            else:
                values.append(word)
        try:
            self.refresh()
            self._execute_command(path, command, values, named)
            if command not in _AS_WORDS:
                self.refresh()
        except ControlError as error:
            raise Failed(errors.tell(error, as_json=False)) from error

    def run_verb(self, *words: str, **options: str | None) -> None:
        """Runs a command line of `targetplugin`; options that are None are left out."""
        line = list(words)
        for name, value in options.items():
            if name in _SWITCHES:
                if _ANSWERS.get(str(value).lower()) is None:
                    raise ExecutionError(f"{name} is yes or no, not {value!r}")
                line += [f"--{name}"] if _ANSWERS[str(value).lower()] else []
            elif value is not None:
                line.append(f"--{name}={value}")
        try:
            args = self._parser_of_verbs.parse_args(line)
        except SystemExit as ended:  # argparse told why
            raise Failed(errors.USAGE) from ended
        status = verbs.run(self._session, args)
        if status != errors.DONE:
            raise Failed(status)


def _is_path(word: str) -> bool:
    return "/" in word or word in (".", "..", "*") or word.startswith("@")


def open_shell(session: Session) -> int:
    """The shell, until it is left. Returns the exit status, a script's that of its first error."""
    try:
        shell = Shell(session)
    except ControlError as error:
        return errors.tell(error, as_json=False)
    if not sys.stdin.isatty():
        return _run_script(shell)
    shell.keep_history()
    print("targetplugin: help shows the commands, exit leaves.")
    while not shell.ended:
        try:
            shell.run_interactive()
        except ExecutionError as error:
            _tell(error)
    shell.remember()
    return errors.DONE


def _run_script(shell: Shell) -> int:
    for line in sys.stdin:
        try:
            shell.run_cmdline(line)
        except ExecutionError as error:
            return _tell(error)
        if shell.ended:
            break
    return errors.DONE


def _tell(error: Any) -> int:
    if isinstance(error, Failed):
        return error.status
    print(f"targetplugin: {printable(str(error))}", file=sys.stderr)
    return errors.USAGE
