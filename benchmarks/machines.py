"""The lab for one group of benchmarks: booted afresh, switched off after it, and what it runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.vm import accel, machine, recipe, state
from tests.vm.lab import Lab


@contextlib.contextmanager
def fresh_lab() -> Iterator[Lab]:
    """Both machines with empty media; off when it ends, however it does."""
    lab = Lab(owned=True)
    lab.up()
    try:
        yield lab
    finally:
        lab.down()


def described(lab: Lab) -> str:
    """The lab's machines in one line, for a table's note."""
    kernel = lab.exec("target", ["uname", "-rv"]).stdout.split()
    works = accel.works("kvm", recipe.image().kernel, state.run_dir() / "initrd")
    return (
        f"the lab: two machines under {'KVM' if works else 'TCG (emulation, no KVM)'}, 2 processors each,"
        f" {machine.MEMORY['target']} and {machine.MEMORY['initiator']} MiB, Debian"
        f" kernel {kernel[5]}"
    )
