"""Prometheus' text format: families of samples as lines. Knows no family.

Source: Prometheus, "Exposition formats", text-based format, version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from msgspec import Struct, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Kind(Enum):
    """What a number is."""

    COUNTER = "counter"  # only grows, and begins at 0 with the daemon
    GAUGE = "gauge"


class Family(Struct, frozen=True):
    """A name, what its numbers mean, and the names of their labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Sample(Struct, frozen=True):
    """One number of a family, with the values of its labels in their order."""

    family: Family
    value: float
    labels: tuple[str, ...] = field(default=())


def text(families: Iterable[Family], samples: Iterable[Sample]) -> str:
    """All that is told: a family's lines stand together, in the order of the families."""
    found: Mapping[str, list[Sample]] = {family.name: [] for family in families}
    for sample in samples:
        found[sample.family.name].append(sample)
    lines = []
    for told in found.values():
        if told:
            family = told[0].family
            lines.append(f"# HELP {family.name} {family.help}")
            lines.append(f"# TYPE {family.name} {family.kind.value}")
            lines += [_line(sample) for sample in told]
    return "\n".join([*lines, ""])


def _line(sample: Sample) -> str:
    pairs = zip(sample.family.labels, sample.labels, strict=True)
    labels = ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in pairs)
    name = f"{sample.family.name}{{{labels}}}" if labels else sample.family.name
    return f"{name} {_number(sample.value)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
