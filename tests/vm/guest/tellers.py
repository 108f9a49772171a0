"""Two tellers of the bank, who move money until /run/tellers.end is there: the load. Runs on the initiator.

Each transaction has a number. Before and after it the number is noted in /run/tellers: of each teller the one
that was begun last and the one that was answered last, 0 at first. So it is known what a copy of the database
must hold: all that was answered before the copy was asked for, and nothing that began when it was there.

Prints when each transaction began, as /proc/uptime counts, and what it took.
"""

from __future__ import annotations

import json
import mmap
import random
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, "/opt/targetplugin/checkout")

from tests.vm.guest import bank, postgres

MARKS, END = Path("/run/tellers"), Path("/run/tellers.end")
NOTE = struct.Struct("=2Q")  # of a teller: begun, answered


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Teller:
    """Pays, one transaction after the other."""

    def __init__(self, which: int, last: int, marks: mmap.mmap) -> None:
        self.paid: list[tuple[float, float]] = []
        self._which, self._last, self._marks = which, last, marks
        self._answered = 0
        self._chance = random.Random()
        self._client = subprocess.Popen(
            postgres.client(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def pay(self) -> None:
        # The lower one first, so that no two wait for each other.
        debit, credit = sorted(self._chance.sample(range(1, bank.ACCOUNTS + 1), 2))
        number, amount = self._last + 1, self._chance.randrange(-99, 100)
        began = now()
        NOTE.pack_into(self._marks, self._which * NOTE.size, number, self._answered)
        assert self._client.stdin
        assert self._client.stdout
        self._client.stdin.write(
            f"SELECT pay({self._which}, {number}, {debit}, {credit}, {amount});\n"
        )
        if self._client.stdout.readline().strip() != str(number):
            raise RuntimeError(f"teller {self._which} was not answered; see {postgres.LOG}")
        NOTE.pack_into(self._marks, self._which * NOTE.size, number, number)
        self._last = self._answered = number
        self.paid.append((began, now() - began))

    def close(self) -> None:
        self._client.communicate()


def pay() -> list[tuple[float, float]]:
    """[(when it began, what it took), ...] in seconds."""
    last, faults = bank.numbers(), []
    MARKS.write_bytes(b"".join(NOTE.pack(number, 0) for number in last))
    with open(MARKS, "r+b") as file, mmap.mmap(file.fileno(), 0) as marks:
        tellers = [Teller(which, last[which], marks) for which in range(bank.TELLERS)]

        def work(teller: Teller) -> None:
            try:
                while not END.exists() and not faults:
                    teller.pay()
            except (RuntimeError, OSError) as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(teller,)) for teller in tellers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for teller in tellers:
            teller.close()
    MARKS.unlink()
    END.unlink(missing_ok=True)
    if faults:
        raise faults[0]
    return [one for teller in tellers for one in teller.paid]


if __name__ == "__main__":
    print(json.dumps(pay()))
