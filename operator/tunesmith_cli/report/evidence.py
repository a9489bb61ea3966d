"""Everything that a job has left behind so far, read from its folder.

The first half of a report; `story.py` is the second. Stages that have not run, artifacts that are
still being written and files that are gone are simply not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue, ValidationError

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus, StageStatus
from tunesmith_api.manifest import ManifestError, load_job, read_manifest
from tunesmith_cli.report.artifacts import (
    CompressFacts,
    CurveLine,
    EvaluationFile,
    ParityFile,
    PrepareFacts,
    Record,
    TrainFacts,
    VerifyFacts,
    as_record,
    read_curve,
    read_json,
    read_record,
)
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageName, StageResult
from tunesmith_engine.stages.digests import local_path

_KEY_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Evidence:
    """A job's status, the latest result of each stage, and what its artifacts hold."""

    name: str
    status: FineTuneJobStatus
    job: FineTuneJob | None = None
    results: Mapping[StageName, StageResult] = field(default_factory=dict)
    curve: list[CurveLine] = field(default_factory=list)
    evaluation: EvaluationFile | None = None
    card: JsonValue = None
    parity: ParityFile | None = None

    @property
    def prepare(self) -> PrepareFacts:
        return self._facts(PREPARE.name, PrepareFacts)

    @property
    def train(self) -> TrainFacts:
        return self._facts(TRAIN.name, TrainFacts)

    @property
    def compress(self) -> CompressFacts:
        return self._facts(COMPRESS.name, CompressFacts)

    @property
    def verify(self) -> VerifyFacts:
        return self._facts(VERIFY.name, VerifyFacts)

    def _facts(self, stage: StageName, kind: type[Record]) -> Record:
        result = self.results.get(stage)
        found = as_record(result.facts, kind) if result else None
        return found or kind()


def gather(folder: Path, status: FineTuneJobStatus) -> Evidence:
    """Read the folder of a job, HOME/jobs/NAME."""
    results = dict(_results(folder, status))
    curve = _artifact(results, TRAIN.name, "curve") or _running_curve(folder, status)
    return Evidence(
        name=folder.name,
        status=status,
        job=_job(folder),
        results=results,
        curve=read_curve(curve),
        evaluation=read_record(_artifact(results, EVALUATE.name, "evaluation"), EvaluationFile),
        card=read_json(_artifact(results, PREPARE.name, "card")),
        parity=read_record(_artifact(results, VERIFY.name, "parity"), ParityFile),
    )


def _job(folder: Path) -> FineTuneJob | None:
    path = folder / "manifest.yaml"
    try:
        return load_job(read_manifest(path), source=str(path))
    except ManifestError:
        return None


def _results(folder: Path, status: FineTuneJobStatus) -> list[tuple[StageName, StageResult]]:
    found = []
    for stage in status.stages:
        result = _latest_result(_stage_folder(folder, stage))
        if result is not None:
            found.append((result.stage, result))
    return found


def _stage_folder(folder: Path, stage: StageStatus) -> Path:
    return folder / "stages" / stage.name / stage.key[:_KEY_DIGITS]


def _latest_result(folder: Path) -> StageResult | None:
    """The result that counts, or else that of the last attempt that left one."""
    attempts = sorted(
        folder.glob("attempts/*/result.json"), key=lambda path: (len(path.parent.name), path)
    )
    for path in (folder / "result.json", *reversed(attempts)):
        try:
            return StageResult.model_validate(read_json(path))
        except ValidationError:
            continue
    return None


def _artifact(results: Mapping[StageName, StageResult], stage: StageName, name: str) -> Path | None:
    result = results.get(stage)
    found = [each for each in result.artifacts if each.name == name] if result else []
    return local_path(found[0]) if found and found[0].uri.startswith("file://") else None


def _running_curve(folder: Path, status: FineTuneJobStatus) -> Path | None:
    """Where training writes its curve before it has a result."""
    for stage in status.stages:
        if stage.name == TRAIN.name:
            return _stage_folder(folder, stage) / "artifacts" / "curve.jsonl"
    return None
