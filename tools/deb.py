"""`python3 -m tools.deb DIR`: Debian packages, `targetplugin` for targets and `pitcopy` for hosts.

Takes the checkout as `tools/prepare engine` made it, for this machine's Python and processor. Pinned Python
packages go into the package: Debian 12 has not all of them.
"""

from __future__ import annotations

import argparse
import email
import email.message
import gzip
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from targetplugin import __version__
from targetplugin.host import onefile
from tools import completion, manual

CHECKOUT = Path(__file__).parents[1]
RECIPES = CHECKOUT / "packaging/debian"
HOME = "usr/lib/targetplugin"
SITE = f"{HOME}/site-packages"
PROGRAM = """\
#!/usr/bin/python3
import sys
at = next(i for i, path in enumerate(sys.path) if path.endswith("dist-packages"))
sys.path[at:at] = ["/{home}", "/{site}"]
from {module} import main
sys.exit(main())
"""
PROGRAMS = {
    "targetplugin": "targetplugin.terminal.main",
    "targetplugind": "targetplugin.daemon",
    "targetplugin-lio": "targetplugin.kernel.service",
    "targetplugin-files": "targetplugin.media.service",
    "targetplugin-images": "targetplugin.qemu.service",
    "targetplugin-hooks": "targetplugin.hooks.service",
    "targetplugin-dbus": "targetplugin.dbus.main",
}
UNITS = (
    "targetplugind.service",
    "targetplugin-lio.service",
    "targetplugin-lio.socket",
    "targetplugin-files.service",
    "targetplugin-files.socket",
    "targetplugin-images.service",
    "targetplugin-images.socket",
    "targetplugin-hooks.service",
    "targetplugin-hooks.socket",
    "targetplugin-metrics.service",
    "targetplugin-metrics.socket",
    "targetplugin-dbus.service",
)
FILES = {  # -> in the package; all of the target's
    **{f"packaging/{unit}": f"lib/systemd/system/{unit}" for unit in UNITS},
    "packaging/sysusers.conf": "usr/lib/sysusers.d/targetplugin.conf",
    "packaging/dbus/targetplugin.conf": "usr/share/dbus-1/system.d/targetplugin.conf",
    "packaging/grafana/targetplugin.json": "usr/share/doc/targetplugin/grafana.json",
}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the targetplugin authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
"""
NOTE = "Made from a checkout by python3 -m tools.deb.\n"
CHANGES = "{name} ({version}) unstable; urgency=medium\n\n  * See the project's history.\n\n"


def build(folder: Path, version: str = __version__) -> list[Path]:
    """Makes both packages in a folder. Returns their files."""
    made = []
    for name, architecture, fill in (
        ("targetplugin", processor(), _fill_target),
        ("pitcopy", "all", _fill_host),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch) / "tree"
            tree.mkdir(mode=0o755)
            fill(tree)
            _document(tree, name, version)
            _control(tree, name, version, architecture)
            made.append(_packed(tree, folder / f"{name}_{version}_{architecture}.deb"))
    return made


def processor() -> str:
    """This machine's, as Debian calls it."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _fill_target(tree: Path) -> None:
    engine = CHECKOUT / "targetplugin/engine"
    if not any(engine.glob("core.*.so")):
        raise SystemExit("There is no engine in this checkout: run tools/prepare engine first.")
    for source in sorted((CHECKOUT / "targetplugin").rglob("*")):
        if source.suffix in (".py", ".so") and "__pycache__" not in source.parts:
            _put(tree, f"{HOME}/{source.relative_to(CHECKOUT)}", source.read_bytes())
    _put_dependencies(tree / SITE)
    for name, module in PROGRAMS.items():
        text = PROGRAM.format(home=HOME, site=SITE, module=module)
        _put(tree, f"usr/bin/{name}", text.encode(), 0o755)
    for source, place in FILES.items():
        _put(tree, place, (CHECKOUT / source).read_bytes())
    script = [sys.executable, "-m", "targetplugin.terminal.main", "completion", "bash"]
    words = subprocess.run(script, check=True, capture_output=True, cwd=CHECKOUT).stdout
    _put(tree, "usr/share/bash-completion/completions/targetplugin", words)


def _put_dependencies(site: Path) -> None:
    """The pinned Python packages, without what none of them needs when it runs."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-warn-script-location", "--no-compile", "--target", str(site)]
    wanted = ["--requirement", str(CHECKOUT / "requirements.txt")]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The Python packages of requirements.txt can't be had:\n{done.stderr}")
    shutil.rmtree(site / "bin", ignore_errors=True)
    for leftover in site.rglob("__pycache__"):
        shutil.rmtree(leftover)


def _fill_host(tree: Path) -> None:
    place = tree / "usr/bin/pitcopy"
    place.parent.mkdir(parents=True)
    onefile.build(place)
    words = completion.pitcopy_script().encode()
    _put(tree, "usr/share/bash-completion/completions/pitcopy", words)


def _document(tree: Path, name: str, version: str) -> None:
    folder = tree / "usr/share/man/man8"
    folder.mkdir(parents=True)
    for page in manual.pages():
        if page.parser.prog.startswith(name):
            manual.write(folder, page)
    changes = CHANGES.format(name=name, version=version).encode()
    _put(tree, f"usr/share/doc/{name}/changelog.gz", gzip.compress(changes, 9, mtime=0))
    _put(tree, f"usr/share/doc/{name}/README", NOTE.encode())
    _put(tree, f"usr/share/doc/{name}/copyright", _copyright(tree).encode())


def _copyright(tree: Path) -> str:
    """Whose the package is, and the Python packages in it, each with what its own metadata says."""
    text = COPYRIGHT
    for found in sorted((tree / SITE).glob("*.dist-info")):
        told = email.message_from_string((found / "METADATA").read_text())
        license = told["License-Expression"] or told["License"] or _classified(told)
        whose = told["Author"] or told["Author-email"] or told["Maintainer"] or "its authors"
        text += (
            f"\nFiles: {SITE}/*\nComment: {told['Name']} {told['Version']}; the licence's text is in"
            f" {SITE}/{found.name}\nCopyright: {whose}\nLicense: {license.splitlines()[0]}\n"
        )
    return text


def _classified(told: email.message.Message) -> str:
    """A licence by its classifier, where nothing else tells it."""
    classes = [one.split(" :: ")[-1] for one in told.get_all("Classifier", []) if "License" in one]
    return classes[0] if classes else "see its text"


def _control(tree: Path, name: str, version: str, architecture: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
        f"  {path.relative_to(tree)}\n"
        for path in files
    ]
    major, minor = map(int, sysconfig.get_python_version().split("."))
    text = (RECIPES / f"{name}.control").read_text()
    filled = text.format(
        version=version,
        architecture=architecture,
        size=sum(path.stat().st_size for path in files) // 1024 + 1,
        python=f"{major}.{minor}",
        next_python=f"{major}.{minor + 1}",
    )
    _put(tree, "DEBIAN/control", filled.encode())
    _put(tree, "DEBIAN/md5sums", "".join(sums).encode())
    for script in SCRIPTS:
        source = RECIPES / f"{name}.{script}"
        if source.exists():
            _put(tree, f"DEBIAN/{script}", source.read_bytes(), 0o755)


def _put(tree: Path, path: str, data: bytes, mode: int = 0o644) -> None:
    place = tree / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(mode)


def _packed(tree: Path, package: Path) -> Path:
    for path in tree.rglob("*"):
        executable = path.is_dir() or path.stat().st_mode & 0o111
        path.chmod(0o755 if executable else 0o644)
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(package)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{package.name} can't be made: {done.stderr.strip()}")
    return package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the packages are to be")
    parser.add_argument("--version", default=__version__, help="instead of the checkout's own")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for package in build(options.folder, options.version):
        print(package)


if __name__ == "__main__":
    main()
