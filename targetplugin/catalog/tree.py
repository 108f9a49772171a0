"""The generations of a volume as a tree, and what differs between two of its points. Reads maps; keeps nothing.

A point is named by the generation that it froze; the live generation's number names the present. 0 is the empty root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from targetplugin.catalog.rows import Generation


class Tree:
    """The tree of one volume, from its rows."""

    def __init__(self, generations: Iterable[Generation]) -> None:
        raise NotImplementedError

    def path(self, one: int, other: int) -> list[Generation]:
        """The edges between two points, in the order one -> common ancestor -> other.

        Raises:
            Refused: NOT_FOUND, a point is not known.
        """
        raise NotImplementedError

    def ancestors(self, point: int) -> list[int]:
        """The point and all above it, up to (and without) the root."""
        raise NotImplementedError

    def needed(self, points: Iterable[int]) -> set[int]:
        """The generations whose edges lie on a path between any two of the points; all others can be forgotten."""
        raise NotImplementedError


def differential(
    tree: Tree,
    one: int,
    other: int,
    extents: int,
    read: Callable[[str], bytes],
    live: Mapping[int, bytes] | None = None,
) -> bytes:
    """What differs between two points: the OR of the maps on the path; exact or larger, never smaller.

    Args:
        read: Maps.read.
        live: maps of generations that are not frozen, by number. One that is missing counts as all.
    """
    raise NotImplementedError
