"""`python3 -m tools.completion`: the script that completes command lines of pitcopy in bash.

A host has no such verb: pitcopy is one file there, and stays small.
"""

from __future__ import annotations

import argparse
import sys

from targetplugin.host import pitcopy
from targetplugin.terminal import completion

HEAD = """\
# bash completion for pitcopy; made by: python3 -m tools.completion
"""
# Saves are asked from the disk, in-band, which needs root; one that does not answer is not waited for.
ASKS = r"""
_pitcopy_names() {
    local word
    for word in "${words[@]}"; do
        [[ $word == /* ]] || continue
        timeout 3 "${words[0]}" status "$word" --json 2> /dev/null | python3 -c '
import json, sys
for save in json.load(sys.stdin)["saves"]:
    print(save["generation"], save["label"] if save["label"].split() == [save["label"]] else "")
' 2> /dev/null
        return
    done
}
"""
_BY_METAVAR = {
    "DEVICE": "device",
    "LABEL|GENERATION": "names save",
    "FILE|DIRECTORY": "file",
}


def completes(action: argparse.Action) -> str:
    """As completion.named; pitcopy's parser says it by what an argument is called."""
    return _BY_METAVAR.get(str(action.metavar), "") or completion.named(action)


def pitcopy_script() -> str:
    return completion.script(pitcopy.parser(), head=HEAD, asks=ASKS, completes=completes)


if __name__ == "__main__":
    sys.stdout.write(pitcopy_script())
