"""The project's own code as the guests run it: the package, and the commands on their PATH.

It is taken from the checkout at each boot and compiled here: importing it from the share costs
a guest four times as long a module (16 ms and 4 ms under emulation). No rebuild of the image.
"""

import configparser
import py_compile
import sys
import tempfile
from pathlib import Path

from . import kernel
from .dependencies import GUEST_PYTHON
from .state import CHECKOUT

PACKAGE = CHECKOUT / "targetplugin"
GUEST_CODE = "opt/targetplugin/code"
GUEST_SITE = "opt/targetplugin/site-packages"
COMMANDS = {
    "targetplugind": "target",
    "targetplugin-lio": "target",
    "targetplugin-files": "target",
    "targetplugin-images": "target",
    "targetplugin-hooks": "target",
    "targetplugin-dbus": "target",
    "targetplugin": "target",
    "pitcopy": "initiator",
}


def package() -> list[kernel.Entry]:
    """The package's files, with bytecode if this Python makes the guest's kind."""
    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in sorted(PACKAGE.rglob("*")):
            if "__pycache__" in source.parts or not source.is_file():
                continue
            place = f"{GUEST_CODE}/{source.relative_to(CHECKOUT)}"
            if source.suffix in (".py", ".so", ".typed", ".json", ".sql"):
                entries.append(kernel.file(place, source.read_bytes()))
            if source.suffix == ".py" and sys.version_info[:2] == GUEST_PYTHON:
                entries += _bytecode(source, place, Path(scratch) / "pyc")
    return entries


def _bytecode(source: Path, place: str, draft: Path) -> list[kernel.Entry]:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    try:
        py_compile.compile(
            str(source), str(draft), f"/{place}", doraise=True, invalidation_mode=mode
        )
    except py_compile.PyCompileError:
        return []  # whoever imports it in the guest is told
    name = f"{source.stem}.cpython-{GUEST_PYTHON[0]}{GUEST_PYTHON[1]}.pyc"
    where = place.rpartition("/")[0]
    return [kernel.file(f"{where}/__pycache__/{name}", draft.read_bytes())]


def command(name: str) -> str | None:
    """The program that starts an entry point of `setup.cfg`.

    None as long as the checkout has no such module. The project's directories stand before
    Debian's packages and behind Python's own library.
    """
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    for line in setup["options.entry_points"]["console_scripts"].splitlines():
        script, _, place = (part.strip() for part in line.partition("="))
        module, _, function = place.partition(":")
        source = CHECKOUT / module.replace(".", "/")
        if script == name and (source.with_suffix(".py").exists() or source.is_dir()):
            return f"""\
#!/usr/bin/python3
import sys
sys.dont_write_bytecode = True
at = next(i for i, path in enumerate(sys.path) if path.endswith("dist-packages"))
sys.path[at:at] = ["/{GUEST_CODE}", "/{GUEST_SITE}"]
from {module} import {function}
sys.exit({function}())
"""
    return None
