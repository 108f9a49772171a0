"""QEMU's machine protocol (QMP), as far as the lab needs it: one command, one event.

Knows the protocol, not what is asked by it.
"""

import json
import socket
from pathlib import Path
from typing import Any

from .errors import LabError


class Qmp:
    """One connection to a running QEMU; a context manager."""

    def __init__(self, path: Path, timeout: float = 15.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._events: list[dict[str, Any]] = []
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            self._receive()
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise LabError("The machine went away while it was being asked something.")
        message: dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The command's answer; LabError with QEMU's own words if it refuses."""
        message = {"execute": command, "arguments": arguments or {}}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._receive()
            if "event" in answer:
                self._events.append(answer)
            elif "error" in answer:
                raise LabError(f"QEMU refused {command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait_for(self, event: str, device: str) -> None:
        """Waits for an event about a device; TimeoutError if it does not come."""
        while True:
            while self._events:
                seen = self._events.pop(0)
                if seen["event"] == event and seen.get("data", {}).get("device") == device:
                    return
            message = self._receive()
            if "event" in message:
                self._events.append(message)
