"""How a program begins to log: where to, from which level on, and that no exception gets past it."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from targetplugin.logs.journald import Journald, takes
from targetplugin.logs.lines import Lines

_log = logging.getLogger("targetplugin")


def begin(name: str, level: str = "info") -> None:
    """Logs from `level` on, for the program `name`. Where logging was set up already, it stays as it is."""
    handler: logging.Handler
    if takes(2):
        handler = Journald(name)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if handler not in logging.getLogger().handlers:
        handler.close()
        return
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = _thread_died
    sys.unraisablehook = _not_raised


def _died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("%s ends by a defect", sys.argv[0], exc_info=(kind, error, trace))


def _thread_died(end: threading.ExceptHookArgs) -> None:
    if end.exc_value is None or end.exc_type is SystemExit:
        return
    name = end.thread.name if end.thread else "that is gone"
    exception = (end.exc_type, end.exc_value, end.exc_traceback)
    _log.critical("the thread %s ends by a defect", name, exc_info=exception)


def _not_raised(what: sys.UnraisableHookArgs) -> None:
    if what.exc_value is None:
        return
    exception = (what.exc_type, what.exc_value, what.exc_traceback)
    _log.error("%s, in %r", what.err_msg or "a defect", what.object, exc_info=exception)
