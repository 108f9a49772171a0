"""A Refused on its way from a service to who asked it."""

from __future__ import annotations

from msgspec import Struct

from targetplugin.errors import Reason, Refused


class Refusal(Struct, frozen=True):
    """See Refused."""

    reason: Reason
    message: str
    object: str = ""
    hint: str = ""

    @classmethod
    def of(cls, refused: Refused) -> Refusal:
        return cls(refused.reason, refused.message, refused.object, refused.hint)

    def refused(self) -> Refused:
        return Refused(self.reason, self.message, object=self.object, hint=self.hint)
