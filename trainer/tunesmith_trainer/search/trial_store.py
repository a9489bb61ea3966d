"""The records of trials on disk, from which a search that was killed goes on.

A trial that has ended is a whole folder among the checkpoints of the stage, as stages keep what the
next attempt goes on from, so that a job's store has it, too. One that runs has its record
in its own folder, with its checkpoints.
"""

import shutil
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.contracts import CHECKPOINTS
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_engine.stages.trial_records import TRIALS_FILE, TrialRecord, TrialsFile
from tunesmith_trainer.train.taken_weights import DECISIONS

_RECORD: Final = "trial.json"
_WEIGHTS: Final = "weights-"


class TrialStore:
    """All trials of one search, by number, in memory and on disk.

    `output` is the stage's, `kept` the folder of its checkpoints.
    """

    def __init__(self, output: Path, *, kept: Path) -> None:
        self._output = output
        self._kept = kept
        self._trials: dict[int, TrialRecord] = {}
        running = output.glob(f"trials/*/{_RECORD}")
        ended = kept.glob(f"trial-*/{_RECORD}")
        # Of one that was killed between its two records, the second counts.
        for path in (*running, *ended):
            trial = TrialRecord.model_validate_json(path.read_bytes())
            self._trials[trial.number] = trial

    @property
    def trials(self) -> list[TrialRecord]:
        """In order of their numbers."""
        return [self._trials[number] for number in sorted(self._trials)]

    def __getitem__(self, number: int) -> TrialRecord:
        return self._trials[number]

    def folder(self, number: int) -> Path:
        """Where a trial has its checkpoints while it runs."""
        return self._output / "trials" / f"{number:04d}"

    def note(self, trial: TrialRecord) -> None:
        """Have a record in memory alone: what a trial shows on its way, it would show again."""
        self._trials[trial.number] = trial

    def write(self, trial: TrialRecord) -> None:
        """Keep a record; of a trial that has ended nothing else is kept."""
        self.note(trial)
        text = trial.model_dump_json(by_alias=True, indent=1)
        if trial.has_ended:
            write_whole(self._kept / f"trial-{trial.number:04d}" / _RECORD, text)
            shutil.rmtree(self.folder(trial.number), ignore_errors=True)
        else:
            self.folder(trial.number).mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder(trial.number) / _RECORD, text)
        TrialsFile(trials=self.trials).write(self._output / TRIALS_FILE)

    def weights(self, number: int) -> Path:
        """Where the weights of a trial are kept that are taken as they are."""
        return self._kept / f"{_WEIGHTS}{number:04d}"

    def keep_weights(self, number: int) -> None:
        """Keep a trial's checkpoints, and what was decided for it before its first step."""
        target = self.weights(number)
        part = target.with_name(f".{target.name}.part")
        # Of one that was killed before its record was written, and run again.
        for leftover in (part, target):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        shutil.move(self.folder(number) / CHECKPOINTS, part / CHECKPOINTS)
        for name in DECISIONS:
            for folder in (self._output, self.folder(number)):
                if (folder / name).exists():
                    shutil.copyfile(folder / name, part / name)
        part.rename(target)

    def drop_weights(self, *, but: int) -> None:
        """Remove the weights of all other trials."""
        for path in self._kept.glob(f"{_WEIGHTS}*"):
            if path != self.weights(but):
                shutil.rmtree(path)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is all of a checkpoint's folder."""
    folder = path.parent
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / path.name).write_text(text, encoding="utf-8")
    # NB: a folder counts from the moment it has a name without a dot.
    part.rename(folder)
