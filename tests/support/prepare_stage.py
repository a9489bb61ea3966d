"""The prepare stage as a test starts it: a folder with data and a model, and a spec over it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest, StageResult
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.data import prepared as data
from tunesmith_trainer.prepare.stage import prepare


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request over the folder `root`, and what came of it."""

    root: Path
    request: StageRequest
    outcome: StageOutcome

    @property
    def model(self) -> Path:
        return local_path(self.outcome.artifacts[0])


class SilentReporter:
    """Progress that nobody reads."""

    def progress(self, message: str, **_: Any) -> None:
        """Forget it."""


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """One JSON value a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(*questions: str, answer: str = "Turn it off and on again.") -> list[dict[str, str]]:
    """A row for every question, all with one answer."""
    return [{"prompt": question, "completion": answer} for question in questions]


def prepare_request(
    root: Path, *, model: str, chat_template: str | None = None, **spec: Any
) -> StageRequest:
    """A request over the files in `root`; `rows.jsonl` is what it trains on unless `spec` says."""
    given = {
        "model": {"uri": model, "chatTemplate": chat_template},
        "dataset": {"train": {"uri": "file://rows.jsonl"}},
        "output": {"model": "tiny"},
        "training": {"sequenceLength": 256},
        **spec,
    }
    output = root / "artifacts"
    output.mkdir(exist_ok=True)
    return StageRequest(
        job="tiny",
        stage=PREPARE.name,
        key="0" * 64,
        attempt=1,
        spec=FineTuneJobSpec.model_validate(given).with_defaults(),
        output=str(output),
        report=str(root / "progress.json"),
        result=str(root / "result.json"),
        base=str(root),
        cache=str(root / "cache"),
        secrets=str(root / "secrets"),
        models=str(root / "models"),
    )


def run_prepare(request: StageRequest) -> StageOutcome:
    """Run the stage in this process."""
    return prepare(request, SilentReporter())


def load_outcome(root: Path, outcome: StageOutcome, *, model: str) -> data.Prepared:
    """What a later stage reads of this outcome."""
    request, inputs = prepare_request(root, model=model), {PREPARE.name: result_of(outcome)}
    return data.load_prepared(request.model_copy(update={"inputs": inputs}))


def result_of(outcome: StageOutcome) -> StageResult:
    """What a later stage is given of this outcome."""
    return StageResult(
        stage=PREPARE.name,
        key="0" * 64,
        attempt=1,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        artifacts=outcome.artifacts,
        facts=outcome.facts,
    )
