"""`python3 -m tools.manual DIR`: the manual pages, made from the parsers as the reference is."""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from targetplugin import __version__, daemon
from targetplugin.dbus import main as dbus
from targetplugin.hooks import service as hooks
from targetplugin.host import pitcopy
from targetplugin.kernel import service as lio
from targetplugin.media import service as files
from targetplugin.qemu import service as images
from targetplugin.terminal.verbs import build_parser
from tools.reference import EXIT_STATUS, FILES, leaves

DATE = "2026-11-26"  # man(7) wants one


@dataclass(frozen=True)
class Page:
    """One manual page: of a program, in a section, with the pages to read besides."""

    parser: argparse.ArgumentParser
    section: int
    what: str
    see_also: tuple[str, ...]

    @property
    def file(self) -> str:
        return f"{self.parser.prog}.{self.section}"


def pages() -> list[Page]:
    """All pages, by name."""
    return [
        Page(pitcopy.parser(), 8, "save a disk, run a job, take the disk back", ("iscsiadm(8)",)),
        Page(
            build_parser(),
            8,
            "make, save and take back iSCSI disks",
            ("targetplugind(8)", "pitcopy(8)", "targetcli(8)"),
        ),
        Page(
            daemon.parser(),
            8,
            "serves iSCSI disks that can take a job back",
            (
                "targetplugin(8)",
                "targetplugin-lio(8)",
                "targetplugin-files(8)",
                "targetplugin-images(8)",
                "targetplugin-hooks(8)",
                "targetplugin-dbus(8)",
                "systemctl(1)",
            ),
        ),
        Page(
            lio.parser(),
            8,
            "changes LIO and opens rings for targetplugind",
            ("targetplugind(8)", "systemctl(1)"),
        ),
        Page(
            files.parser(),
            8,
            "opens files and disks for targetplugind",
            ("targetplugind(8)", "systemctl(1)"),
        ),
        Page(
            images.parser(),
            8,
            "runs qemu-img, wipefs and sfdisk for targetplugind",
            ("targetplugind(8)", "qemu-img(1)", "wipefs(8)", "systemctl(1)"),
        ),
        Page(
            hooks.parser(),
            8,
            "runs hooks for targetplugind",
            ("targetplugind(8)", "targetplugin(8)", "systemctl(1)"),
        ),
        Page(
            dbus.parser(),
            8,
            "tells targetcli of volumes",
            ("targetplugind(8)", "targetcli(8)"),
        ),
    ]


def text_of(page: Page) -> str:
    """A page in the language of man(7)."""
    os.environ["COLUMNS"] = "80"  # argparse folds usages by it
    parser = page.parser
    title = f'.TH {parser.prog.upper()} {page.section} {DATE} "targetplugin {__version__}"'
    lines = [title, ".SH NAME", f"{parser.prog} \\- {quoted(page.what)}", ".SH SYNOPSIS"]
    lines += _plain(parser.format_usage().removeprefix("usage: "))
    lines += [".SH DESCRIPTION", *_paragraphs(parser.description or "")]
    if options := _options(parser):
        lines += [".SH OPTIONS", *options]
    verbs = [leaf for leaf in leaves(parser) if leaf is not parser]
    lines += [".SH COMMANDS"] if verbs else []
    for leaf in verbs:
        lines += [f".SS {quoted(leaf.prog.removeprefix(parser.prog).strip())}"]
        lines += _plain(leaf.format_usage().removeprefix("usage: "))
        lines += [*_paragraphs(leaf.description or ""), *_options(leaf)]
        if leaf.epilog:
            lines += _plain(leaf.epilog)
    if parser.epilog:
        lines += [".SH EXAMPLES", *_plain(parser.epilog.removeprefix("examples:\n"))]
    lines += [".SH EXIT STATUS", *_paragraphs(EXIT_STATUS)]
    lines += [".SH FILES", *_files()]
    lines += [".SH SEE ALSO"]
    for last, one in enumerate(page.see_also, 1):
        name, _, section = one.rstrip(")").partition("(")
        lines.append(f".BR {name} ({section}){',' if last < len(page.see_also) else ''}")
    text = "\n".join(lines) + "\n"
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", text, flags=re.MULTILINE)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """What a parser takes besides verbs, each with its sentence."""
    lines: list[str] = []
    formatter = argparse.HelpFormatter(parser.prog)
    for action in parser._actions:
        if isinstance(action, (argparse._SubParsersAction, argparse._HelpAction)):
            continue
        if action.help is argparse.SUPPRESS:
            continue
        shown = formatter._format_action_invocation(action)
        told = formatter._expand_help(action) if action.help else ""
        lines += [".TP", f"\\fB{quoted(shown)}\\fR", quoted(told) or "\\&"]
    return lines


def _paragraphs(text: str) -> list[str]:
    """Sentences that may be filled, without the marks of Markdown."""
    lines: list[str] = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if part:
            filled = " ".join(part.split()).replace("`", "")
            lines += [".PP", quoted(filled)]
    return lines


def _plain(text: str) -> list[str]:
    """Lines that stay as they are."""
    return [".PP", ".nf", *(quoted(line) or "\\&" for line in text.rstrip().splitlines()), ".fi"]


def _files() -> list[str]:
    """The first table of the reference's chapter on files."""
    lines: list[str] = []
    for path, what in re.findall(r"^\| (`/[^|]+) \| ([^|]+) \|$", FILES, re.MULTILINE):
        lines += [".TP", quoted(path.replace("`", "")), quoted(what.replace("`", ""))]
    return lines


def quoted(text: str) -> str:
    """Text that man(7) takes for nothing but text."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    safe = safe.replace("'", "\\(aq").replace("~", "\\(ti").replace("^", "\\(ha")
    return "\\&" + safe if safe.startswith(".") else safe


def write(folder: Path, page: Page) -> Path:
    """Writes a page as Debian wants it: compressed, the same bytes each time."""
    place = folder / f"{page.file}.gz"
    place.write_bytes(gzip.compress(text_of(page).encode(), 9, mtime=0))
    return place


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m tools.manual DIR")
    for each in pages():
        print(write(Path(sys.argv[1]), each))
