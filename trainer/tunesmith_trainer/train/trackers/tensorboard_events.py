"""TensorBoard's event files, written by torch's own writer into the artifacts of training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_trainer.train.trackers.rows import Ending, Row


class TensorboardEvents:
    """A folder of event files.

    A file cannot be cut behind the checkpoint that a run goes on from, so what earlier attempts
    have written goes, and the whole curve is written once more: the first rows are all there are.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._writer: Any = None

    def open(self) -> None:
        """Begin with an empty folder."""
        from torch.utils.tensorboard import SummaryWriter

        earlier = list(self._folder.glob("events.out.tfevents.*"))
        for file in earlier:
            file.unlink()
        # A TensorBoard that has read them drops what it has read.
        self._writer = SummaryWriter(str(self._folder), purge_step=0 if earlier else None)
        lines = (f"| {path} | {value} |" for path, value in sorted(self._settings.items()))
        table = "\n".join(["| setting | value |", "| --- | --- |", *lines])
        self._writer.add_text("settings", table, global_step=0)

    def log(self, rows: list[Row]) -> None:
        """Write the rows."""
        for row in rows:
            for name, value in row.values.items():
                self._writer.add_scalar(name, value, global_step=row.step)
        self._writer.flush()

    def close(self, _ending: Ending) -> None:
        """Finish the file."""
        self._writer.close()
