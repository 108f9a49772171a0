"""The control door: JSON-RPC 2.0 on a unix socket.

Translates requests into the subsystem's verbs; decides no state.
"""
