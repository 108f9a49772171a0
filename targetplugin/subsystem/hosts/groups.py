"""Groups: volumes that an operator declared as belonging together, so that a host may name them together.

Owns who may; what is done with several volumes stands in together.py.
"""

from __future__ import annotations

from targetplugin.catalog import Group, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground import names
from targetplugin.subsystem.ground.floor import Floor, unknown
from targetplugin.subsystem.ground.views import Shape

MOST = 64  # volumes in a group


class Groups:
    """See the module."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    def create(self, name: str, volumes: list[str]) -> Shape:
        """See Subsystem.group_create."""
        names.check_volume(name)
        members = self.members(volumes)
        return self._shape(self._floor.catalog.group_add(name, [v.uuid for v in members]))

    def delete(self, name: str) -> Shape:
        """See Subsystem.group_delete."""
        shape = self._shape(self._get(name))
        self._floor.catalog.group_remove(name)
        return shape

    def all(self) -> list[Shape]:
        """By name."""
        return [self._shape(group) for group in self._floor.catalog.groups()]

    def members(self, volumes: list[str]) -> list[Volume]:
        """The volumes of these names. Raises Refused (USAGE) where they are no group."""
        found = [self._floor.volume(name) for name in volumes]
        twice = next((name for name in volumes if volumes.count(name) > 1), None)
        if twice is not None:
            raise Refused(
                Reason.USAGE, f"{twice} is named twice", object=twice, hint="name it once"
            )
        if not 2 <= len(found) <= MOST:
            raise Refused(
                Reason.USAGE,
                f"a group has 2 to {MOST} volumes, not {len(found)}",
                hint="name the volumes that belong together",
            )
        return found

    # --- hosts -----------------------------------------------------------------------------------

    def limit(self, name: str) -> int:
        """How many volumes a host of this one may name together with it, itself included; 1: none."""
        volume = self._floor.volume(name)
        sizes = [len(group.volumes) for group in self._of(volume)]
        return max(sizes, default=1)

    def reach(self, name: str, naas: list[str]) -> list[str]:
        """The names of a volume and of those that a host names together with it by their NAA.

        Raises:
            Refused: RIGHTS, in the same words whatever is wrong: a host is told of no volume that
            it can't see anyway.
        """
        volume = self._floor.volume(name)
        known = {row.naa: row for row in self._floor.catalog.volumes()}
        asked = [known.get(naa) for naa in naas]
        found = [row for row in asked if row is not None]
        uuids = {row.uuid for row in found} | {volume.uuid}
        declared = any(uuids <= set(group.volumes) for group in self._of(volume))
        if len(found) < len(naas) or len(uuids) <= len(naas) or not declared:
            raise self._not_together(volume)
        for row in found:
            if self._hosts(row) != self._hosts(volume) or row.rights != volume.rights:
                raise self._not_together(volume)
        return [volume.name] + [row.name for row in found]

    def _of(self, volume: Volume) -> list[Group]:
        return [group for group in self._floor.catalog.groups() if volume.uuid in group.volumes]

    def _hosts(self, volume: Volume) -> set[str] | None:
        export = self._floor.catalog.export_get(volume.uuid)
        return {one.iqn for one in export.initiators} if export else None

    def _not_together(self, volume: Volume) -> Refused:
        return Refused(
            Reason.RIGHTS,
            f"hosts of {volume.name} may not name these disks together",
            object=volume.name,
            hint="the operator declares a group, of volumes with the same hosts and rights:"
            " targetplugin group create",
        )

    # --- what they share -------------------------------------------------------------------------

    def _get(self, name: str) -> Group:
        group = self._floor.catalog.group_get(name)
        if group is None:
            known = [one.name for one in self._floor.catalog.groups()]
            raise unknown("group", name, "groups", known, "declare one with group create")
        return group

    def _shape(self, group: Group) -> Shape:
        """name, volumes, created, why: what keeps hosts from naming them together, or None."""
        rows = [self._floor.catalog.volume_get(uuid) for uuid in group.volumes]
        volumes = [row for row in rows if row is not None]
        why = None
        if len(volumes) < 2:
            why = "it has less than two volumes"
        elif len({row.rights for row in volumes}) > 1:
            why = "their in-band rights differ"
        elif any(self._hosts(row) != self._hosts(volumes[0]) for row in volumes):
            why = "they are not exported to the same hosts"
        elif not self._hosts(volumes[0]):
            why = "they are not exported"
        return {
            "name": group.name,
            "volumes": [row.name for row in volumes],
            "created": group.created,
            "why": why,
        }
