"""Running qemu-img, or another program that looks at a disk, on files that are open; by whom is settled once.

Knows descriptors; no path, volume or image.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from msgspec import Struct

from targetplugin.qemu.launch import Launch, Launched, here

_launch: Launch = here


class Ended(Struct, frozen=True):
    """How a run ended: its exit status, what it said, what it complained of."""

    status: int
    output: bytes
    complaint: bytes


def run_by(launch: Launch) -> None:
    """Has all runs from now on started so. At first they are children of this process."""
    global _launch
    _launch = launch


def place(descriptor: int) -> str:
    """What is open, as a program is told of it; the descriptor is passed on under the same number."""
    return f"/proc/self/fd/{descriptor}"


@contextmanager
def launched(
    command: list[str], descriptors: Sequence[int]
) -> Iterator[tuple[Launched, BinaryIO, BinaryIO]]:
    """A run, its output and its complaints: they end when the program has, with its last request, whoever
    runs it. Before that nobody else may have the medium (rule 19). Raises Refused.
    """
    output, of_it = os.pipe2(os.O_CLOEXEC)
    complaints, of_them = os.pipe2(os.O_CLOEXEC)
    with open(output, "rb", 0) as told, open(complaints, "rb", 0) as complained:
        try:
            running = _launch(command, descriptors, of_it, of_them)
        finally:
            os.close(of_it)
            os.close(of_them)
        try:
            yield running, told, complained
        except BaseException:
            running.end()
            for pipe in (told, complained):
                pipe.read()
            running.wait()
            raise


def ended(command: list[str], *descriptors: int, seconds: float | None = None) -> Ended:
    """Runs it to its end, or ends it when its time is over. Raises Refused where it can't be run."""
    with launched(command, descriptors) as (running, output, complaints):
        timer = threading.Timer(seconds, running.end) if seconds else None
        if timer is not None:
            timer.start()
        try:
            told = output.read()
            complaint = complaints.read()
        finally:
            if timer is not None:
                timer.cancel()
        return Ended(running.wait(), told, complaint)
