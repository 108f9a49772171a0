"""What both ends of the control socket agree on: where it is, its limits, its error codes.

Imports nothing.
"""

from __future__ import annotations

DEFAULT_SOCKET = "/run/targetplugin/control.sock"
MAX_LINE = 1 << 20  # bytes of one request, its newline included; answers have no limit
JSONRPC = "2.0"

# JSON-RPC 2.0, section 5.1; -32000 is ours: see the reason in the error's data.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REFUSED = -32000
