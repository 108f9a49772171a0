"""What all modules that ask the daemon have in common, for their documentation."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  executable:
    description: The terminal's program on the target.
    type: str
    default: targetplugin
  socket:
    description: The daemon's control socket, where it is not the usual one.
    type: path
attributes:
  check_mode:
    description: Tells what would be changed, and changes nothing.
    support: full
  diff_mode:
    description: Tells how it was and how it is.
    support: full
notes:
  - Runs as root or as the daemon's user, on the target.
  - Asks the daemon by its terminal, so the machine needs no Python package of ours.
"""
