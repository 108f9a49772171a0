"""`targetplugin`: takes the command line, runs one verb or the shell, and returns the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from targetplugin.terminal import errors
from targetplugin.terminal.session import Session
from targetplugin.terminal.verbs import build_parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line `targetplugin`."""
    args = build_parser().parse_args(arguments)
    session = Session(args.socket)
    try:
        if args.run is not None:
            status = run(session, args)
        else:
            from targetplugin.terminal.shell import open_shell

            status = open_shell(session)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return errors.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; what was asked is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.DONE
    finally:
        session.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
