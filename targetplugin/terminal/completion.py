"""`targetplugin completion bash`: a script for bash, made from the parser.

Words of the grammar stand in the script; names of volumes and the like are asked from the daemon
when the key is pressed. A script for another program is made from its parser the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from targetplugin.control.client import ControlError
from targetplugin.terminal import grammar
from targetplugin.terminal.session import Session

KINDS = ("volume", "save", "point", "medium", "operation", "backup", "group")

_HEAD = """\
# bash completion for targetplugin; made by: targetplugin completion bash
# Put it into /etc/bash_completion.d/targetplugin, or: source <(targetplugin completion bash)
"""
_NAMES = r"""
_targetplugin_names() {
    "${words[0]}" completion names "$1" 2> /dev/null
}
"""
_SCRIPT = r"""
_PROGRAM() {
    # bash breaks words at '@' and ':'; ours are split at blanks alone.
    local line="${COMP_LINE:0:COMP_POINT}" words current option="" verb="" word i kind="" found
    local -i after=0 place=0 ended=0
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[-1]}"
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word="${words[i]}"
        if [[ $word == -- ]]; then
            ended=i
            break
        elif [[ $word == -* ]]; then
            option="$word" after=0
        elif [[ -n $option && " $(_PROGRAM_takes "$verb" "$option") " == *" one "* \
                && $after -eq 0 ]]; then
            after=1
        elif [[ -n $option && " $(_PROGRAM_takes "$verb" "$option") " == *" many "* ]]; then
            after+=1
        elif [[ " $(_PROGRAM_words "$verb") " == *" $word "* ]]; then
            verb="${verb:+$verb }$word" option=""
        else
            place+=1 option=""
        fi
    done
    if ((ended)); then  # what follows is another program's
        found="$(compgen -f -- "$current")" kind=file
        ((ended < ${#words[@]} - 2)) || [[ $current == */* ]] || \
            found="$(compgen -c -- "$current")" kind=""
    elif [[ $current == -* ]]; then
        found="$(compgen -W "$(_PROGRAM_options "$verb")" -- "$current")"
    else
        local takes="$(_PROGRAM_takes "$verb" "$option")"
        if [[ -n $option && ( $takes == many* || ( $takes == one* && $after -eq 0 ) ) ]]; then
            kind="${takes#* }"
        else
            kind="$(_PROGRAM_place "$verb" "$place")"
        fi
        case "$kind" in
            "") found="" ;;
            file) found="$(compgen -f -- "$current")" ;;
            device)
                kind=file
                found="$(compgen -f -- "${current:-/dev/}" | while IFS= read -r word; do
                    [[ ! -b $word && ! -d $word ]] || printf '%s\n' "$word"
                done)" ;;
            names\ *)
                found="$(compgen -W "$(_PROGRAM_names "${kind#names }")" -- "$current")" ;;
            *) found="$(compgen -W "${kind#words }" -- "$current")" ;;
        esac
    fi
    # Readline replaces only what follows the last break.
    local stem="${current%"${current##*[@:=]}"}"
    [[ $COMP_WORDBREAKS == *@* ]] || stem=""
    COMPREPLY=()
    while IFS= read -r word; do
        [[ -n $word ]] && COMPREPLY+=("${word#"$stem"}")
    done <<< "$found"
    [[ $kind == file ]] && compopt -o filenames 2> /dev/null
    return 0
}
"""


def declare(verbs: grammar.Verbs, root: argparse.ArgumentParser) -> None:
    """Args:
    root: the parser that the script is made from, when it is whole.
    """

    def run(session: Session, args: argparse.Namespace) -> None:
        if args.what == "bash":
            print(script(root), end="")
        else:
            for name in sorted(names(session, args.kind)):
                print(name)

    parser = grammar.verb(
        verbs,
        "completion",
        run,
        "print a script that completes command lines in bash",
        examples=["completion bash > /etc/bash_completion.d/targetplugin"],
    )
    parser.add_argument("what", choices=("bash", "names"), help="the script, or names for it")
    parser.add_argument("kind", nargs="?", choices=KINDS, default="volume", help="which names")


def names(session: Session, kind: str) -> set[str]:
    """The names of a kind that the daemon knows; none where there is no daemon."""
    try:
        if kind == "backup":
            return {str(one["number"]) for one in session.call("backup.list")}
        if kind == "group":
            return {one["name"] for one in session.call("group.list")}
        status = session.call("status")
    except ControlError:
        return set()
    volumes = status["volumes"]
    if kind == "medium":
        return {one["name"] for one in status["media"]}
    if kind == "operation":
        return {str(one["id"]) for one in status["operations"]}
    found = {one["name"] for one in volumes}
    if kind == "point":
        found = {"now"}
    if kind in ("save", "point"):
        for one in volumes:
            found |= {save["name"] for save in one["saves"]}
            found |= {f"{one['name']}@{s['label']}" for s in one["saves"] if s.get("label")}
    return {name for name in found if not any(c.isspace() for c in name)}


def named(action: argparse.Action) -> str:
    """What completes an argument: `words A B`, `names KIND`, `file`, `device` or nothing."""
    choices: Any = action.choices
    if choices:
        return f"words {' '.join(choices)}"
    kind = getattr(action, "completed_as", "")
    return f"names {kind}" if kind in KINDS else kind


def script(
    root: argparse.ArgumentParser,
    *,
    head: str = _HEAD,
    asks: str = _NAMES,
    completes: Callable[[argparse.Action], str] = named,
) -> str:
    """The script for a grammar.

    Args:
        head: comment lines that it begins with.
        asks: a function in bash, `_PROGRAM_names KIND`, that prints what there is of a kind.
        completes: what completes an argument, as `named` tells.
    """
    program = f"_{root.prog}"
    verbs = dict(_walk(root, ()))
    lines = [head + asks + _SCRIPT.replace("_PROGRAM", program)]
    words = {path: " ".join(_subverbs(parser)) for path, parser in verbs.items()}
    lines += _function(program, "words", [(f'"{" ".join(p)}"', w) for p, w in words.items() if w])
    options = [
        (
            f'"{" ".join(path)}"',
            " ".join(o for action in _options(p) for o in action.option_strings),
        )
        for path, p in verbs.items()
    ]
    lines += _function(program, "options", options)
    takes: dict[str, list[str]] = {}
    places: dict[str, list[str]] = {}
    for path, parser in verbs.items():
        name = " ".join(path)
        for action in _options(parser):
            if action.nargs != 0:
                many = "many" if action.nargs == "+" else "one"
                value = f"{many} {completes(action)}"
                for option in action.option_strings:
                    takes.setdefault(value, []).append(f'"{name}:{option}"')
        for place, action in enumerate(_positionals(parser)):
            # Of the last that takes many, all places from its own on: none of ours stands past nine.
            at = f'"{name}:"[{place}-9]' if action.nargs == "+" else f'"{name}:{place}"'
            places.setdefault(completes(action), []).append(at)
    lines += _function(program, "takes", [("|".join(p), v) for v, p in takes.items()], "$1:$2")
    lines += _function(program, "place", [("|".join(p), v) for v, p in places.items()], "$1:$2")
    return "\n".join([*lines, f"complete -F {program} {root.prog}", ""])


def _function(program: str, name: str, cases: list[tuple[str, str]], key: str = "$1") -> list[str]:
    arms = [f"        {pattern}) echo '{value}' ;;" for pattern, value in cases]
    return [f"{program}_{name}() {{", f'    case "{key}" in', *arms, "    esac", "}"]


def _walk(
    parser: argparse.ArgumentParser, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, parser
    for name, inner in _subverbs(parser).items():
        yield from _walk(inner, (*path, name))


def _subverbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]
