#!/usr/bin/python3
"""A bank in a database: accounts, and the entries that explain their balances. Runs on the initiator.

bank.py make DATA WAL   file systems on two disks, a PostgreSQL on them, and the tables
bank.py start           the server
bank.py stop MODE       `fast` or `immediate`
bank.py checkpoint
bank.py inspect         starts it, judges all of it, stops it: {wrong, recovered, found}
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

sys.path.insert(0, "/opt/targetplugin/checkout")

from tests.vm.guest import postgres

TELLERS, ACCOUNTS = 2, 5000

TABLES = f"""
CREATE EXTENSION amcheck;
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, note text NOT NULL);
CREATE TABLE entry (teller int, number bigint, debit int, credit int, amount int,
    PRIMARY KEY (teller, number));
INSERT INTO account SELECT id, 0, repeat('x', 300) FROM generate_series(1, {ACCOUNTS}) id;
CREATE FUNCTION pay(teller int, number bigint, debit int, credit int, amount int) RETURNS bigint
LANGUAGE sql AS $$
    UPDATE account SET balance = balance - amount WHERE id = debit;
    UPDATE account SET balance = balance + amount WHERE id = credit;
    INSERT INTO entry VALUES (teller, number, debit, credit, amount);
    SELECT number
$$;
"""
# A sentence, and what prints nothing unless it is true. No joins: the planner would do them badly.
RULES = {
    "balances are not what their entries make": """
        SELECT id, sum(amount) FROM (
            SELECT id, balance AS amount FROM account
            UNION ALL SELECT debit, amount FROM entry
            UNION ALL SELECT credit, -amount FROM entry
        ) AS moves GROUP BY id HAVING sum(amount) <> 0 LIMIT 3""",
    "the balances do not add up": "SELECT sum(balance) FROM account HAVING sum(balance) <> 0",
    "accounts are missing": f"SELECT count(*) FROM account HAVING count(*) <> {ACCOUNTS}",
    "entries are missing": """
        SELECT teller, count(*), max(number) FROM entry
        GROUP BY teller HAVING count(*) <> max(number)""",
    "a table is damaged": """
        SELECT relname, blkno, msg FROM pg_class, verify_heapam(oid)
        WHERE relname IN ('account', 'entry')""",
    "an index is damaged": """
        SELECT bt_index_parent_check(oid, true) FROM pg_class
        WHERE relname IN ('account_pkey', 'entry_pkey')""",
}
RULE = "rule: "


def make(data: str, wal: str) -> None:
    for device, place in ((data, postgres.DATA), (wal, postgres.WAL)):
        place.mkdir(exist_ok=True)
        subprocess.run(["mkfs.ext4", "-qF", "-E", "nodiscard", device], check=True)
        subprocess.run(["mount", device, str(place)], check=True)
    postgres.make()
    postgres.start()
    postgres.ask(TABLES)
    postgres.ask("CHECKPOINT;")


def numbers() -> list[int]:
    """The highest number of each teller that the entries have."""
    last = [0] * TELLERS
    for line in postgres.ask("SELECT teller, max(number) FROM entry GROUP BY teller;").split():
        teller, highest = map(int, line.split("|"))
        last[teller] = highest
    return last


def wrong() -> list[str]:
    """What is wrong with the tables, each as a sentence. In one session: each costs a second, emulated."""
    try:
        told = postgres.ask(
            "".join(f"\\echo '{RULE}{rule}'\n{sql};\n" for rule, sql in RULES.items())
        )
    except RuntimeError as error:
        return [str(error)]
    found = [part.strip().partition("\n") for part in told.split(RULE)[1:]]
    assert [rule for rule, _, _ in found] == list(RULES), told
    return [f"{rule}: {said}" for rule, _, said in found if said]


def inspect() -> dict[str, Any]:
    """wrong: sentences; recovered: whether the start had a crash to recover from; found: see `numbers`."""
    try:
        postgres.start()
    except RuntimeError as error:
        return {"wrong": [str(error)], "recovered": False, "found": []}
    told = {"wrong": wrong(), "recovered": postgres.recovered(), "found": numbers()}
    postgres.stop("fast")
    told["wrong"] += postgres.wrong_checksums()
    return told


VERBS = {
    "start": postgres.start,
    "checkpoint": lambda: postgres.ask("CHECKPOINT;"),
    "crash": lambda: postgres.stop("immediate"),
    "inspect": lambda: print(json.dumps(inspect())),
}


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        for verb in sys.argv[1:]:
            VERBS[verb]()
