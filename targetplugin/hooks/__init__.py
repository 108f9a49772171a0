"""Running the programs that are told of events, here or by the service that has root's rights for it.

Knows programs and lines; no catalog and no event.
"""
