"""By which id a tracker knows the run, kept beside the checkpoints: what resumes goes on there.

A file for each tracker below `checkpoints/trackers`, which the checkpoint mirror copies as it does
checkpoints.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.reporter import write_atomically

FOLDER: Final = "trackers"


@dataclass(frozen=True, slots=True)
class RunIds:
    """The ids of the run with this `config_digest`; another configuration is another run."""

    folder: Path
    config_digest: str

    def read(self, tracker: str) -> str | None:
        """The id there; None before the run was begun."""
        try:
            record = json.loads(self._file(tracker).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record["id"] if record["config"] == self.config_digest else None

    def write(self, tracker: str, run_id: str) -> None:
        """Keep the id, for every later attempt."""
        record = {"config": self.config_digest, "id": run_id}
        write_atomically(self._file(tracker), json.dumps(record))

    def _file(self, tracker: str) -> Path:
        return self.folder / f"{tracker}.json"
