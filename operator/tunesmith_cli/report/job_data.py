"""Everything that a job has left behind so far, read from its folder HOME/jobs/NAME.

The first half of a report; `context.py` is the second. `run` and `serve` ask it for results and
for the published version. Stages that have not run, artifacts that are still being written and
files that are gone are simply not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.manifest import ManifestError, load_job, read_manifest
from tunesmith_api.results import Artifact
from tunesmith_cli.report.artifacts import (
    CurveLine,
    EvaluationFile,
    FoldsFacts,
    KnownRecord,
    MaskedSample,
    ParityFile,
    PrepareFacts,
    RowScores,
    TrainFacts,
    VerifyFacts,
    as_record,
    read_curve,
    read_json,
    read_record,
    read_records,
)
from tunesmith_cli.report.compression_records import CompressFacts, DistillFacts, ExportFacts
from tunesmith_cli.report.explanation_records import ExplainFacts, ExplanationsFile
from tunesmith_engine.stages.catalog import (
    COMPRESS,
    CROSSVAL,
    DISTILL,
    EVALUATE,
    EXPLAIN,
    EXPORT,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.trial_records import TRIALS, TRIALS_FILE, TrialRecord, TrialsFile

# Its row in the catalogue is found by name: the report may be of a release without one.
SEARCH_STAGE: Final = "search"
_FOLDS: Final = "folds"
_DATA: Final = "data"
_SAMPLE_FILE: Final = "sample.json"
# Of the 64 of a stage's key; so many digits name its folder.
_KEY_DIGITS: Final = 16
# Stages whose facts `JobData` reads into records, and the sections of the report show. Those of
# every other stage are shown as they stand.
FACTS_WITH_A_FORM: Final = frozenset(
    {
        PREPARE.name,
        CROSSVAL.name,
        TRAIN.name,
        EXPLAIN.name,
        DISTILL.name,
        COMPRESS.name,
        EXPORT.name,
        VERIFY.name,
    }
)


@dataclass(frozen=True, slots=True)
class JobData:
    """A job's status, the latest result of each stage, and what its artifacts hold.

    `results` are in the order of the job's stages, whichever it has.
    """

    name: str
    status: FineTuneJobStatus
    job: FineTuneJob | None = None
    results: Mapping[str, StageResult] = field(default_factory=dict)
    curve: list[CurveLine] = field(default_factory=list)
    recovery: list[CurveLine] = field(default_factory=list)
    evaluation: EvaluationFile | None = None
    card: JsonValue = None
    sample: MaskedSample | None = None
    parity: ParityFile | None = None
    row_scores: list[RowScores] = field(default_factory=list)
    trials: list[TrialRecord] = field(default_factory=list)
    folds: list[TrialRecord] = field(default_factory=list)
    explanations: ExplanationsFile | None = None

    @property
    def prepare(self) -> PrepareFacts:
        return self._facts(PREPARE.name, PrepareFacts)

    @property
    def crossval(self) -> FoldsFacts:
        return self._facts(CROSSVAL.name, FoldsFacts)

    @property
    def train(self) -> TrainFacts:
        return self._facts(TRAIN.name, TrainFacts)

    @property
    def explain(self) -> ExplainFacts:
        return self._facts(EXPLAIN.name, ExplainFacts)

    @property
    def distill(self) -> DistillFacts:
        return self._facts(DISTILL.name, DistillFacts)

    @property
    def compress(self) -> CompressFacts:
        return self._facts(COMPRESS.name, CompressFacts)

    @property
    def export(self) -> ExportFacts:
        return self._facts(EXPORT.name, ExportFacts)

    @property
    def verify(self) -> VerifyFacts:
        return self._facts(VERIFY.name, VerifyFacts)

    @property
    def shipped_losses(self) -> dict[str, float]:
        """The loss of the model that ships, by suite, in nats per target token."""
        result = self.results.get(COMPRESS.name)
        measured = result.evaluation if result else []
        return {one.suite: one.value for one in measured if one.metric == "loss"}

    @property
    def published(self) -> Artifact | None:
        """The published version of the job's model."""
        result = self.results.get(PUBLISH.name)
        artifacts = result.artifacts if result and result.outcome == "Succeeded" else []
        return next((artifact for artifact in artifacts if artifact.name == "version"), None)

    def _facts(self, stage: str, kind: type[KnownRecord]) -> KnownRecord:
        result = self.results.get(stage)
        facts = as_record(result.facts, kind) if result else None
        return facts or kind()


def read_job_data(folder: Path, status: FineTuneJobStatus) -> JobData:
    """Read the folder of a job."""
    folders = {
        stage.name: folder / "stages" / stage.name / stage.key[:_KEY_DIGITS]
        for stage in status.stages
    }
    results = {
        name: result
        for name, path in folders.items()
        if (result := _latest_result(path)) is not None
    }
    curve = _artifact(results, TRAIN.name, "curve")
    if curve is None and TRAIN.name in folders:
        # Where training writes it before it has a result that names it.
        curve = folders[TRAIN.name] / "artifacts" / "curve.jsonl"
    evaluation = _artifact(results, EVALUATE.name, "evaluation")
    return JobData(
        name=folder.name,
        status=status,
        job=_manifest(folder / "manifest.yaml"),
        results=results,
        curve=read_curve(curve),
        recovery=read_curve(_curve_of_recovery(results, folders)),
        evaluation=read_record(evaluation, EvaluationFile),
        card=read_json(_artifact(results, PREPARE.name, "card")),
        sample=read_record(_sample_file(results), MaskedSample),
        parity=read_record(_answers_of_parity(results), ParityFile),
        row_scores=read_records(_artifact(results, EVALUATE.name, "rowScores"), RowScores),
        trials=_trials(results, folders, stage=SEARCH_STAGE, artifact=TRIALS),
        folds=_trials(results, folders, stage=CROSSVAL.name, artifact=_FOLDS),
        explanations=read_record(
            _artifact(results, EXPLAIN.name, "explanations"), ExplanationsFile
        ),
    )


def _answers_of_parity(results: Mapping[str, StageResult]) -> Path | None:
    """What was asked and answered; earlier releases had it in the file that they published."""
    names = ("parity-answers", "parity")
    return next(filter(None, (_artifact(results, VERIFY.name, name) for name in names)), None)


def _sample_file(results: Mapping[str, StageResult]) -> Path | None:
    """One row as it is trained, which lies beside the data and is in no result."""
    data = _artifact(results, PREPARE.name, _DATA)
    return data / _SAMPLE_FILE if data is not None else None


def _curve_of_recovery(
    results: Mapping[str, StageResult], folders: Mapping[str, Path]
) -> Path | None:
    """Of a recovery that still runs as well."""
    path = _artifact(results, DISTILL.name, "recoveryCurve")
    if path is None and DISTILL.name in folders:
        path = folders[DISTILL.name] / "artifacts" / "recovery.jsonl"
    return path


def _trials(
    results: Mapping[str, StageResult], folders: Mapping[str, Path], *, stage: str, artifact: str
) -> list[TrialRecord]:
    """The trials of a search, or the folds, of a stage that still runs as well."""
    path = _artifact(results, stage, artifact)
    if path is None and stage in folders:
        path = folders[stage] / "artifacts" / TRIALS_FILE
    try:
        return TrialsFile.read(path).trials if path else []
    except (ValidationError, OSError):
        # Of another release; the facts of the stage are shown all the same.
        return []


def _manifest(path: Path) -> FineTuneJob | None:
    # A folder of an older release may hold a manifest that today's rules refuse.
    try:
        return load_job(read_manifest(path), source=str(path))
    except ManifestError:
        return None


def _latest_result(folder: Path) -> StageResult | None:
    """The result that counts, or else that of the last attempt that left one.

    A refused model has numbers, too, and they are what its owner wants to see.
    """
    attempts = sorted(
        folder.glob("attempts/*/result.json"),
        # By number: 10 comes after 9. The length first does that for names of digits.
        key=lambda path: (len(path.parent.name), path),
    )
    for path in (folder / "result.json", *reversed(attempts)):
        try:
            return StageResult.model_validate(read_json(path))
        except ValidationError:
            continue
    return None


def _artifact(results: Mapping[str, StageResult], stage: str, name: str) -> Path | None:
    result = results.get(stage)
    for artifact in result.artifacts if result else ():
        # One in an object store is not fetched: writing a report must not cost a download.
        if artifact.name == name and artifact.uri.startswith("file://"):
            return local_path(artifact)
    return None
