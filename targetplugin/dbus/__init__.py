"""How targetcli finds volumes: its backstore `user:targetplugin`, told over the system's D-Bus.

A program of its own, so that no host's disk depends on the bus. Serves nothing, and changes nothing.
"""
