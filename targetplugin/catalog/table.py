"""What all groups of tables of the catalog share: the database, and rows from and to values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, TypeVar

from targetplugin.catalog.database import Database
from targetplugin.errors import Reason, Refused

Row = TypeVar("Row")


class Tables:
    """A group of tables. Catalog is all groups together."""

    _db: Database


def make(shape: type[Row], row: sqlite3.Row, *, json_in: Iterable[str] = (), **more: Any) -> Row:
    """A row as a value; columns in `json_in` are decoded."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  a Row iterates its values
    for name in json_in:
        values[name] = None if values[name] is None else json.loads(values[name])
    return shape(**{**values, **more})


def columns(
    value: Any, *, json_in: Iterable[str] = (), without: Iterable[str] = ()
) -> dict[str, Any]:
    """A value as columns."""
    skipped = set(without)
    found = {name: getattr(value, name) for name in value.__struct_fields__ if name not in skipped}
    return pack(found, json_in)


def pack(values: dict[str, Any], json_in: Iterable[str]) -> dict[str, Any]:
    """With the named columns as JSON."""
    coded = {name: json.dumps(values[name]) for name in json_in if values.get(name) is not None}
    return {**values, **coded}


def missing(what: str, name: str) -> Refused:
    """What to tell when a row is not there."""
    return Refused(Reason.NOT_FOUND, f"there is no {what} {name}", object=name)
