"""The doctor: looks at a machine before anything is asked of it, and says what is in the way.

Reads only, works without the daemon, and imports nothing that serves.
"""
