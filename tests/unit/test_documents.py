"""The documents keep their word: links lead somewhere, commands are taken by the parsers, files exist."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from targetplugin import daemon
from targetplugin.dbus import main as dbus
from targetplugin.hooks import service as hooks
from targetplugin.host import pitcopy
from targetplugin.kernel import service as lio
from targetplugin.media import service as files
from targetplugin.qemu import service as images
from targetplugin.terminal.verbs import build_parser
from tests.sim.rules import FENCE, NEWEST, RULES
from tests.vm import tutorial

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "tests/vm/README.md",
    ROOT / "vagrant/README.md",
]
PARSERS = {
    "targetplugin": build_parser,
    "targetplugind": daemon.parser,
    "targetplugin-lio": lio.parser,
    "targetplugin-files": files.parser,
    "targetplugin-images": images.parser,
    "targetplugin-hooks": hooks.parser,
    "targetplugin-dbus": dbus.parser,
    "pitcopy": pitcopy.parser,
}
ENDS = {"&&", "||", ";", "|", ">"}  # of a command, on a line of shell
# Where the documents begin the paths of files that they name: at the root, or in the room they talk of.
PLACES = (ROOT, ROOT / "targetplugin", ROOT / "targetplugin/engine", ROOT / "tests/vm")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def parts(page: Path) -> tuple[str, list[str]]:
    """The prose of a page, and the lines of its code blocks, fenced or indented."""
    prose, code, fenced, paragraph = [], [], False, False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and not paragraph):
            code.append(line.strip())
            continue
        else:
            prose.append(line)
        paragraph = bool(line.strip()) and not fenced
    return "\n".join(prose), code


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", parts(page)[0], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command of ours on a line of shell. What follows two blanks explains it."""
    shell = shlex.shlex(re.split(r"\s{2,}", line)[0], posix=True, punctuation_chars=True)
    shell.wordchars += "@:,+"
    try:
        words = list(shell)
    except ValueError:  # an apostrophe: no shell
        return
    for place, word in enumerate(words):
        if word in PARSERS and (place == 0 or words[place - 1] in ENDS | {"--"}):
            end = next((i for i in range(place, len(words)) if words[i] in ENDS), len(words))
            found = words[place:end]
            if found[:2] == ["pitcopy", "run"] and "--" in found:  # what follows is another's
                found = found[: found.index("--")]
            yield found


@every_page
def test_links_lead_to_what_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", parts(page)[0]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_commands_are_taken_by_the_parsers(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in parts(page)[1]:
        for program, *words in commands(line):
            try:
                PARSERS[program]().parse_args(words)
            except SystemExit:
                pytest.fail(f"{line}\n{capsys.readouterr().err}")


@every_page
def test_verbs_and_options_that_the_prose_names_exist(page: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", parts(page)[0]):
        program, *words = code.split()
        if program not in PARSERS or words[:1] == ["VERB"]:
            continue
        parser = PARSERS[program]()
        while words and words[0][0] != "-" and (verbs := verbs_of(parser)):
            assert words[0] in verbs, code
            parser = verbs[words.pop(0)]
        for word in words:
            if word == "--":
                break
            assert not word.startswith("--") or word in parser._option_string_actions, code


@every_page
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    prose, code = parts(page)
    for name in re.findall(r"`([\w./]+/[\w.]+\.(?:py|pyx|pxi|txt|md|service))`", prose):
        assert name.startswith("/") or any((place / name).exists() for place in PLACES), name
    for module in re.findall(r"python3? -m ([\w.]+)", "\n".join([prose, *code])):
        assert find_spec(module), module


def test_the_contents_of_the_how_to_page_name_every_how_to() -> None:
    page = ROOT / "docs/howto.md"
    contents = page.read_text().partition("\n## ")[0]
    assert anchors(page) - {"how-to"} == set(re.findall(r"\]\(#([^)]+)\)", contents))


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in readme


def test_the_tutorial_was_recorded_as_it_stands() -> None:
    typed = tutorial.lines(tutorial.TUTORIAL.read_text())
    assert [line for line, _ in tutorial.recorded(tutorial.RECORDING.read_text())] == typed


def test_the_readme_fits_on_two_screens() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100


def test_the_explanation_tells_every_rule_that_the_simulator_holds() -> None:
    told = (ROOT / "docs/explanation.md").read_text()
    for name in [*(rule.name for rule in RULES), FENCE, NEWEST]:
        assert f"\n| {name.partition('-')[0]} | " in told, name


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(groups[0].choices) if groups else {}
