"""The stage `train` as the engine runs it: a process of its own, with a request file."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_trainer.data.prepared import RowRecord, write_row_records
from tunesmith_trainer.data.token_rows import TokenRows

# Small models on busy processors: threads that wait for each other sleep.
_SHARED_PROCESSORS = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True, slots=True)
class TrainStage:
    """One train stage, or another that trains, in its own folder."""

    folder: Path
    name: StageName = TRAIN.name

    @property
    def output(self) -> Path:
        return self.folder / "artifacts"

    @property
    def command(self) -> list[str]:
        """What runs the stage."""
        request = str(self.folder / "request.json")
        return [sys.executable, "-m", "tunesmith_trainer", self.name, request]

    @property
    def result(self) -> StageResult:
        """What the stage wrote as its last act."""
        return StageResult.model_validate_json((self.folder / "result.json").read_text())

    @property
    def checkpoints(self) -> list[Path]:
        return list(self.output.glob("checkpoints/step-*"))

    def curve(self) -> list[dict[str, Any]]:
        """The curve without what depends on the clock."""
        timed = {"seconds", "tokensPerSecond", "residentBytes"}
        lines = (self.output / "curve.jsonl").read_text().splitlines()
        return [
            {key: value for key, value in json.loads(line).items() if key not in timed}
            for line in lines
        ]

    @contextmanager
    def started(self) -> "Iterator[subprocess.Popen[bytes]]":
        """Start the process as the executor does, in a session of its own, and kill it at the end.

        All that it starts has this folder in its environment, for `command.processes_of`.
        """
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **_SHARED_PROCESSORS, "TEST_FOLDER": str(self.folder)},
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, *, timeout_s: float = 300.0) -> StageResult:
        """Run it to its end."""
        with self.started() as process:
            process.wait(timeout=timeout_s)
        return self.result

    def log(self) -> str:
        """What the process printed."""
        return (self.folder / "log.txt").read_text()


def a_train_stage(
    folder: Path,
    *,
    model: Path,
    train: TokenRows,
    validation: TokenRows,
    store: str | None = None,
    name: StageName = TRAIN.name,
    inputs: dict[StageName, StageResult] | None = None,
    **spec: Any,
) -> TrainStage:
    """Write everything that the stage reads below `folder`."""
    data = folder / "data"
    data.mkdir(parents=True)
    train.save(data / "train.safetensors")
    validation.save(data / "validation.safetensors")
    for split, rows in (("train", train), ("validation", validation)):
        write_row_records(_records(len(rows)), data / f"{split}.jsonl")
    request = StageRequest(
        job="job",
        stage=name,
        key="0" * 64,
        attempt=1,
        spec=FineTuneJob.model_validate(a_job(**spec)).spec.with_defaults(),
        inputs={PREPARE.name: _prepared(model, data=data), **(inputs or {})},
        output=str(folder / "artifacts"),
        report=str(folder / "progress.json"),
        result=str(folder / "result.json"),
        base=str(folder),
        cache=str(folder / "cache"),
        secrets=str(folder / "secrets"),
        models=str(folder / "models"),
        store=store,
    )
    (folder / "request.json").write_text(request.model_dump_json(by_alias=True))
    return TrainStage(folder, name)


def _records(num_rows: int) -> list[RowRecord]:
    """Rows with texts of their own; what they say is not what their tokens are."""
    return [
        RowRecord(source=f"rows.jsonl:{row}", messages=None, text=f"row {row}", prompt=None,
                  reference=None)
        for row in range(num_rows)
    ]  # fmt: skip


def _prepared(model: Path, *, data: Path) -> StageResult:
    return StageResult(
        stage=PREPARE.name,
        key="1" * 64,
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        artifacts=[artifact_of("model", model), artifact_of("data", data)],
    )
