"""What the API server of the tests has been asked, by its own log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The log of requests at `path`, and the files that it was rotated into, beside it.

    kube-apiserver starts a new file after 100 MB, which a run of all tests comes to, and renames
    the old one to `<stem>-<time><suffix>`.
    """

    path: Path

    def calls(self, text: str) -> Iterator[dict[str, Any]]:
        """The requests whose record holds the text, oldest first."""
        # A hyphen sorts before a full stop, so that the file that is written comes last.
        for each in sorted(self.path.parent.glob(f"{self.path.stem}*{self.path.suffix}")):
            with each.open(encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if text in line)
