"""`targetplugin`, the control terminal: verbs, tables, progress and a shell.

Speaks to the daemon through `control/client.py` and knows nothing else of it.
"""
