"""The generations of a volume as a tree, and what differs between two of its points.

Reads maps by the function it is given; keeps nothing. A point is named by the generation that it
froze; the live generation's number names the present. 0 is the root, a volume full of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from targetplugin.catalog.maps import either, full
from targetplugin.catalog.rows import ALL, LIVE, Generation
from targetplugin.errors import Reason, Refused

ROOT = 0


class Tree:
    """The tree of one volume, from its rows."""

    def __init__(self, generations: Iterable[Generation]) -> None:
        self._edges = {row.number: row for row in generations}

    def ancestors(self, point: int) -> list[int]:
        """The point and all above it, up to the root but without it.

        Raises:
            Refused: NOT_FOUND, the point or one above it is not known.
        """
        found = []
        while point != ROOT:
            if point not in self._edges or point in found:
                raise Refused(
                    Reason.NOT_FOUND,
                    f"generation {point} is not known",
                    object=str(point),
                    hint="choose a save that the volume's status lists",
                )
            found.append(point)
            point = self._edges[point].parent
        return found

    def path(self, one: int, other: int) -> list[Generation]:
        """The edges between two points, from the one up to where they meet, and down to the other.

        Raises:
            Refused: NOT_FOUND, a point is not known.
        """
        up, down = self.ancestors(one), self.ancestors(other)
        shared = set(up) & set(down)
        points = [p for p in up if p not in shared] + [p for p in reversed(down) if p not in shared]
        return [self._edges[point] for point in points]

    def needed(self, points: Iterable[int]) -> set[int]:
        """The points that must be kept so that any two of those given can be compared."""
        return {above for point in points for above in self.ancestors(point)}


def differential(
    tree: Tree,
    one: int,
    other: int,
    extents: int,
    read: Callable[[str], bytes],
    live: Mapping[int, bytes] | None = None,
) -> bytes:
    """What differs between two points: the OR of the maps on the path (rule 15).

    Exact or larger, never smaller: a map that can't be read counts as all (rule 20).

    Args:
        extents: of the volume.
        read: Maps.read.
        live: maps of generations that are not frozen, by number; one that is missing is all.
    """
    maps = []
    for edge in tree.path(one, other):
        if edge.map == LIVE and live and edge.number in live:
            maps.append(live[edge.number])
        elif edge.map in (LIVE, ALL):
            return full(extents)
        else:
            try:
                maps.append(read(edge.map))
            except Refused:
                return full(extents)
    return either(maps, extents)
