"""One run of the terminal: its connection, made when first needed, and how results are shown.

Knows no verb. Everything that the verbs do goes through here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from targetplugin.control.client import AnswerLost, Client


class Session:
    """Args:
    socket: where the daemon is.
    as_json: results are printed as they came, and nothing else is.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.as_json = False
        self._client: Client | None = None

    def call(self, method: str, **params: Any) -> Any:
        """The result; parameters that are None are left out. Raises ControlError."""
        given = {name: value for name, value in params.items() if value is not None}
        if self._client is None:
            self._client = Client.connect(self.socket)
        try:
            return self._client.call(method, **given)
        except (AnswerLost, KeyboardInterrupt):
            self.close()  # an answer that comes late would be taken for the next call's
            raise

    def show(self, result: Any, tell: Callable[[Any], None]) -> None:
        """Prints the result: as JSON, or as `tell` puts it for a person."""
        if self.as_json:
            print(json.dumps(result, ensure_ascii=False, indent=2))
        else:
            tell(result)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
