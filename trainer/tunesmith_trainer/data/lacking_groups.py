"""Rows that groups lack: counted by `prepare`, written by `synthesize`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.reporter import write_atomically

# In the folder of prepare's rows.
_FILE: Final = "lacking.json"

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LackingGroups:
    """Groups of training rows, and how many rows more would make each as large as the largest.

    Attributes:
        names: of what a group is the values: columns, "language", "topic", "tokens".
        of_rows: the group of each training row, in their order.
        lacks: rows for each group; 0 for the largest, and for those too small to be shown.
    """

    names: tuple[str, ...]
    of_rows: tuple[Group, ...]
    lacks: Mapping[Group, int]

    def save(self, folder: Path) -> None:
        """Write them into the folder of the rows."""
        groups = list(self.lacks)
        places = {group: place for place, group in enumerate(groups)}
        told = {
            "names": self.names,
            "groups": groups,
            "lacks": [self.lacks[group] for group in groups],
            "ofRows": [places[group] for group in self.of_rows],
        }
        write_atomically(folder / _FILE, json.dumps(told, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "LackingGroups | None":
        """Read what `save` wrote; nothing where no groups are to be filled."""
        path = folder / _FILE
        if not path.is_file():
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
        groups = [tuple(group) for group in told["groups"]]
        return cls(
            names=tuple(told["names"]),
            of_rows=tuple(groups[place] for place in told["ofRows"]),
            lacks=dict(zip(groups, told["lacks"], strict=True)),
        )
