"""The rules of order as rules.txt tells them: what each says, and how it is left out of the core."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Kept outside of the core, by whoever starts it: media are opened exclusively, which waits for a dead
# process's requests; and of all records the newest counts.
FENCE = "19-fence"
NEWEST = "20-newest"
RULE = re.compile(
    r"^\[(\S+)\] (\S+)(?: from (\d+))?\n([^\n]+)\n<<<<\n(.*?)\n====\n(.*?)\n>>>>$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Rule:
    """`old` stands once in `file`; in `new` LEFT_OUT is true where the rule is not kept.

    The search for what is lost then begins at seed `first`, a little before one that found it once.
    """

    name: str
    file: str
    first: str  # empty: 0
    says: str
    old: str
    new: str

    def leave_out(self, text: str, condition: str) -> str:
        """The file's text, with the rule left out while `condition` holds."""
        if text.count(self.old) != 1:
            count = text.count(self.old)
            raise ValueError(f"rule {self.name}: its place stands {count} times in {self.file}")
        return text.replace(self.old, self.new.replace("LEFT_OUT", condition))


RULES = tuple(
    Rule(*found) for found in RULE.findall((Path(__file__).parent / "rules.txt").read_text())
)
