"""`python3 -m tests.vm.pairs --count N`: a database's data and journal, on two volumes, saved as one N times.

While the host's tellers pay, the operator asks for saves of both without fill, one after the other, and
shows them to the host; or the host asks for one by legs and takes its disks back. Either way PostgreSQL
then recovers from what is there as from a crash, and all of it is judged. Once the journal alone is taken
back, to show that what is torn is found.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from . import logins
from .guest.tellers import NOTE
from .lab import Lab, Running
from .ledger import IQN, Ledger

GUEST = "/opt/targetplugin/checkout/tests/vm/guest"
DEADLINE = ["--deadline", "5000"]  # milliseconds; an emulated machine is slow
PATIENCE = 300.0  # seconds
AT_ONCE = 2  # of them are looked at, as many as the host has processors


@dataclass
class Paid:
    """The longest transaction of the host over a save, and a usual one; seconds."""

    longest: float
    usual: float


@dataclass
class Report:
    """What came of the saves.

    Attributes:
        findings: sentences, each with the save's label.
        torn: what was found when the journal alone was taken back.
    """

    shown: int = 0
    taken_back: int = 0
    paid: list[Paid] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)  # milliseconds, as the daemon measured them
    findings: list[str] = field(default_factory=list)
    torn: str = ""

    def __str__(self) -> str:
        judged = (
            "; ".join(self.findings) or "each had all that was answered before, and nothing later"
        )
        longest = [1000 * one.longest for one in self.paid]
        usual = statistics.median(1000 * one.usual for one in self.paid)
        return (
            f"{len(self.paid)} saves of data and journal as one under load, {self.shown} shown to the host,"
            f" {self.taken_back} taken back: {judged}.\n"
            f"Writes were paused for {spread(self.pauses)}; the host's longest transaction meanwhile took"
            f" {spread(longest)}, a usual one {usual:.0f} ms.\n"
            f"The journal alone taken back: {self.torn}"
        )


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} ms (median), {max(times):.1f} ms (longest)"


def out_of_place(found: list[int], answered: list[int], begun: list[int]) -> list[str]:
    """Sentences, of each teller: what is missing that was answered before, what is there that began later."""
    return [
        f"teller {teller} is at {number}: {first} was answered before the save, {last} had begun after it"
        for teller, (number, first, last) in enumerate(zip(found, answered, begun, strict=True))
        if not first <= number <= last
    ]


def both(label: str) -> list[str]:
    """The saves of the data and of the journal."""
    return [f"data@{label}", f"wal@{label}"]


class Pairs:
    """The two volumes, the bank on them, and what is done to both."""

    def __init__(self, lab: Lab, under_one_load: int) -> None:
        self.lab = lab
        self.under_one_load = under_one_load
        self.data = Ledger(lab, media="abc", size="160M", name="data")
        self.wal = Ledger(lab, media="def", size="64M", name="wal")
        self.disks = [self.data.disk, self.wal.disk]
        self.report = Report()
        self.data.target("group", "create", "bank", "data", "wal")
        self.guest("initiator", "bank", "make", *self.disks)

    def close(self) -> None:
        """Leaves both machines as they were found."""
        self.lab.shell("initiator", "killall -q -9 postgres && sleep 1; true")
        self.data.target("group", "delete", "bank")
        self.wal.leave()
        self.data.close()

    def guest(self, where: str, program: str, *words: str) -> str:
        command = [f"{GUEST}/{program}.py", *words]
        return self.lab.exec(where, command, timeout=PATIENCE, warm=True).stdout

    # --- a round -----------------------------------------------------------------------------

    def round(self, number: int, saves: int) -> int:
        """At most so many saves; returns how many."""
        if number % 2:
            self._save_by_host(f"round-{number}")
            return 1
        labels = [f"round-{number}-{which}" for which in range(min(saves, self.under_one_load))]
        self._save_by_operator(labels)
        return len(labels)

    def _save_by_operator(self, labels: list[str]) -> None:
        def save(label: str) -> None:
            self.data.target("save", "data", "wal", "--label", label, "--no-fill", *DEADLINE)

        with Load(self.lab) as load:
            spans = [load.over(partial(save, label)) for label in labels]
        for first in range(0, len(labels), AT_ONCE):
            some = labels[first : first + AT_ONCE]
            with self._shown([name for label in some for name in both(label)]) as disks:
                looks = [self._look(*disks[2 * which :][:2]) for which in range(len(some))]
                for label, span, look in zip(some, spans[first:], looks, strict=False):
                    self._judge(label, load.paid(span), span, look.wait(PATIENCE).stdout)
            self.report.shown += len(some)
        self.guest("target", "both", "release", *(name for label in labels for name in both(label)))

    def _look(self, data: str, wal: str) -> Running:
        return self.lab.spawn("initiator", ["python3", "-B", f"{GUEST}/look.py", data, wal])

    @contextmanager
    def _shown(self, saves: list[str]) -> Iterator[list[str]]:
        """The host's disks that are the saves."""
        targets = json.loads(self.guest("target", "both", "show", IQN, *saves))
        try:
            logins.log_in(self.lab, targets, timeout=PATIENCE)
            yield logins.disks(self.lab, targets, timeout=PATIENCE)
        finally:
            logins.log_out(self.lab, *targets)
            self.guest("target", "both", "hide", *saves)

    def _save_by_host(self, label: str) -> None:
        with Load(self.lab) as load:
            span = load.over(lambda: self._pitcopy("save", "--label", label, *DEADLINE))
        if self.report.torn:
            self.guest("initiator", "bank", "crash")
        else:
            self._tear(label)
        self._pitcopy("recover", "--save", label, "--no-undo", *DEADLINE)
        inspected = self.guest("initiator", "bank", "inspect", "start")
        self._judge(label, load.paid(span), span, inspected)
        self.report.taken_back += 1
        self.guest("target", "both", "resync", *both(label))

    def _tear(self, label: str) -> None:
        """Takes the journal alone back, behind the data's last checkpoint."""
        self.guest("initiator", "bank", "checkpoint", "crash")
        self._pitcopy("recover", "--save", label, "--wait", "--no-undo", disks=[self.wal.disk])
        found = json.loads(self.guest("initiator", "bank", "inspect"))
        assert found["wrong"], "a journal that is older than the data was not found"
        self.report.torn = found["wrong"][0]

    def _judge(self, label: str, paid: Paid, span: Span, inspected: str) -> None:
        found = json.loads(inspected)
        wrong = list(found["wrong"])
        if not wrong:
            wrong = [] if found["recovered"] else ["it is no copy of a server at work"]
            wrong += out_of_place(found["found"], span.before.answered, span.after.begun)
        self.report.findings += [f"{label}: {sentence}" for sentence in wrong]
        self.report.paid.append(paid)

    def _pitcopy(self, verb: str, *words: str, disks: list[str] | None = None) -> None:
        command = ["pitcopy", verb, *(disks or self.disks), *words]
        self.lab.exec("initiator", command, timeout=PATIENCE, warm=True)

    def ask_for_pauses(self) -> None:
        """Of the newest saves, where there are more operations than are listed."""
        listed = json.loads(self.data.target("operation", "list", "--limit", "1000", "--json"))
        saves = [one for one in listed if one["verb"] == "save" and "," in (one["volume"] or "")]
        self.report.pauses = [one["pause_ms"] for one in saves]


@dataclass
class Mark:
    """How far the tellers are: seconds of the host's uptime, and numbers of each teller."""

    now: float
    begun: list[int]
    answered: list[int]


@dataclass
class Span:
    """From before a save until after it."""

    before: Mark
    after: Mark


class Load:
    """The tellers at work."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._paid: list[tuple[float, float]] = []

    def __enter__(self) -> Load:
        command = ["python3", "-B", f"{GUEST}/tellers.py"]
        self._running = self._lab.spawn("initiator", command)
        self._mark()
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed:
            self._running.kill()
            return
        self._lab.shell("initiator", "touch /run/tellers.end")
        self._paid = json.loads(self._running.wait(PATIENCE).stdout)

    def over(self, save: Callable[[], None]) -> Span:
        before = self._mark()
        save()
        return Span(before, self._mark())

    def _mark(self) -> Mark:
        """Waits until every teller was answered."""
        late = time.monotonic() + PATIENCE
        while True:
            command = ["cat", "/proc/uptime", "/run/tellers"]
            said = self._lab.exec("initiator", command, check=False).raw_stdout
            uptime, _, notes = said.partition(b"\n")
            noted = list(NOTE.iter_unpack(notes))
            if noted and all(answered for _, answered in noted):
                break
            assert self._running.is_running, self._running.wait()
            assert time.monotonic() < late, f"not every teller was answered: {noted}"
            time.sleep(0.3)
        begun, answered = ([one[which] for one in noted] for which in (0, 1))
        return Mark(float(uptime.split()[0]), begun, answered)

    def paid(self, span: Span) -> Paid:
        begin, end = span.before.now, span.after.now
        meanwhile = [took for began, took in self._paid if began < end and began + took > begin]
        return Paid(max(meanwhile), statistics.median(took for _, took in self._paid))


def run(lab: Lab, count: int, seconds: float = math.inf, *, under_one_load: int = 4) -> Report:
    """Saves so many times, or for so long; see the module.

    Args:
        under_one_load: how many saves the operator asks for before they are looked at.
    """
    late = time.monotonic() + seconds
    pairs = Pairs(lab, under_one_load)
    try:
        done = rounds = 0
        while done < count and time.monotonic() < late:
            done += pairs.round(rounds, count - done)
            rounds += 1
            print(
                f"{done} of {count}, {len(pairs.report.findings)} not as they should be",
                file=sys.stderr,
            )
        pairs.ask_for_pauses()
    finally:
        pairs.close()
    return pairs.report


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python3 -m tests.vm.pairs", description=__doc__)
    arguments.add_argument("--count", type=int, default=100)
    arguments.add_argument("--minutes", type=float, default=math.inf, help="stop after that long")
    wish = arguments.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        report = run(lab, wish.count, 60 * wish.minutes)
    finally:
        lab.down()
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
