"""The lab's one kind of error: a sentence for the person who drives it.

It must not import anything of the lab.
"""


class LabError(Exception):
    """What could not be done, why, and what to do next; shown without a traceback."""


class Usage(LabError):
    """A command line that can't be meant."""
