#!/usr/bin/env python3
"""A ledger in SQLite, and a night job that spoils it: the job that the demo takes back.

    ledger.py create FILE [--rows 200000] [--transactions 2000]
    ledger.py night FILE       posts interest to half of the accounts, wrongly, and dies of a defect
    ledger.py damage FILE      overwrites balances, as a hand at the wrong prompt does
    ledger.py show FILE        prints accounts, postings, the sum of all balances and a checksum of
    every row, as JSON

Needs Python's standard library only. Every transaction is on stable storage when it is over.
"""

import argparse
import hashlib
import json
import sqlite3
import sys


def connect(path: str) -> sqlite3.Connection:
    """Opens the ledger so that a commit means durable."""
    ledger = sqlite3.connect(path, isolation_level=None)
    ledger.execute("PRAGMA journal_mode=WAL")
    ledger.execute("PRAGMA synchronous=FULL")
    return ledger


def create(ledger: sqlite3.Connection, rows: int, transactions: int) -> None:
    """Makes `rows` rows, one account for each 10 postings, in `transactions` real transactions."""
    ledger.executescript(
        """
        CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT
        NULL);
        CREATE TABLE posting (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT
        NULL,
                              text TEXT NOT NULL);
        """
    )
    accounts = max(1, rows // 11)
    number = 0
    for transaction in range(transactions):
        ledger.execute("BEGIN IMMEDIATE")
        end = rows * (transaction + 1) // transactions
        while number < end:
            if number < accounts:
                ledger.execute(
                    "INSERT INTO account VALUES (?, ?, 0)", (number + 1, f"owner {number + 1}")
                )
            else:
                account = number * 7919 % accounts + 1
                amount = number * 104729 % 20001 - 5000
                ledger.execute(
                    "INSERT INTO posting VALUES (NULL, ?, ?, ?)",
                    (account, amount, f"entry {number}"),
                )
                ledger.execute(
                    "UPDATE account SET balance = balance + ? WHERE id = ?", (amount, account)
                )
            number += 1
        ledger.execute("COMMIT")


def night(ledger: sqlite3.Connection) -> None:
    """The job with the defect: interest is added twice, and an account without owner stops it half-
    way.
    """
    accounts = ledger.execute("SELECT max(id) FROM account").fetchone()[0]
    for first in range(1, accounts, 100):
        ledger.execute("BEGIN IMMEDIATE")
        for account in range(first, min(first + 100, accounts + 1)):
            balance = ledger.execute(
                "SELECT balance FROM account WHERE id = ?", (account,)
            ).fetchone()[0]
            interest = balance // 50
            ledger.execute(
                "INSERT INTO posting VALUES (NULL, ?, ?, 'interest')", (account, interest)
            )
            ledger.execute(
                "UPDATE account SET balance = balance + ? WHERE id = ?", (2 * interest, account)
            )
        ledger.execute("COMMIT")
        if first > accounts // 2:
            raise RuntimeError(f"account {first} has no branch")  # the defect, at last seen


def damage(ledger: sqlite3.Connection) -> None:
    """What nobody meant to type."""
    ledger.execute("UPDATE account SET balance = 0 WHERE id % 3 = 0")


def show(ledger: sqlite3.Connection) -> dict[str, object]:
    """Figures and a checksum that any change of any row changes."""
    digest = hashlib.sha256()
    for table in ("account", "posting"):
        for row in ledger.execute(f"SELECT * FROM {table} ORDER BY id"):
            digest.update(repr(row).encode())
    wrong = ledger.execute(
        "SELECT count(*) FROM account LEFT JOIN "
        "(SELECT account, sum(amount) AS total FROM posting GROUP BY account) AS posted "
        "ON posted.account = account.id WHERE balance <> coalesce(total, 0)"
    ).fetchone()[0]
    return {
        "accounts": ledger.execute("SELECT count(*) FROM account").fetchone()[0],
        "postings": ledger.execute("SELECT count(*) FROM posting").fetchone()[0],
        "sum": ledger.execute("SELECT sum(balance) FROM account").fetchone()[0],
        "wrong_balances": wrong,
        "sha256": digest.hexdigest(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["create", "night", "damage", "show"])
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--transactions", type=int, default=2000)
    arguments = parser.parse_args()
    ledger = connect(arguments.file)
    if arguments.verb == "create":
        create(ledger, arguments.rows, arguments.transactions)
    elif arguments.verb == "night":
        night(ledger)
    elif arguments.verb == "damage":
        damage(ledger)
    else:
        print(json.dumps(show(ledger)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
