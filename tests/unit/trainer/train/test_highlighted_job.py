"""A job with highlights from its file to its evaluation: prepared, trained, judged, and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from prepare_stage import (
    SilentReporter,
    prepare_request,
    result_of,
    run_prepare,
    write_jsonl,
)
from small_models import make_tiny_model
from tunesmith_api.results import Artifact
from tunesmith_engine.stages.catalog import EVALUATE, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.prepared import load_prepared
from tunesmith_trainer.evaluate.stage import evaluate
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.worker import Trained, train_share

DATASET = {"train": {"uri": "file://rows.jsonl"}, "highlights": "because"}
TRAINING = {
    "explanation": {"method": "attribution", "weight": 2.0},
    "sequenceLength": 256,
    "maxSteps": 4,
    "evaluateEverySteps": 4,
    "batch": {"size": 8, "microBatchSize": 4},
    "precision": "fp32",
    "control": {"steps": 2},
}
EVALUATION = {
    "generation": {"metric": "none"},
    "bootstrap": {"resamples": 200},
    "gates": [{"suite": "highlights", "metric": "highlightShare", "min": 0.0}],
}


def rows(number: int = 40) -> list[dict[str, Any]]:
    """Every other one has a highlight: text, or the range of the same."""
    answers = ("Dry the lamp.", "Oil the wheel.")
    told: list[dict[str, Any]] = [
        {"prompt": f"Part {n} is {what} again.", "completion": answer}
        for n in range(number)
        for what, answer in [(("wet", answers[0]), ("loud", answers[1]))[n // 2 % 2]]
    ]
    for n, row in enumerate(told[::2]):
        start = row["prompt"].index(" is ") + 4
        end = row["prompt"].index(" again")
        row["because"] = [row["prompt"][start:end]] if n % 2 else [[start, end]]
    return told


def request_of(root: Path, model: str, data: list[Any], **spec: Any) -> StageRequest:
    write_jsonl(root / "rows.jsonl", data)
    fields = {"dataset": DATASET, "training": TRAINING, "evaluation": EVALUATION, **spec}
    return prepare_request(root, model=model, **fields)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


@pytest.fixture(scope="module")
def request_and_outcome(
    model: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StageRequest, StageOutcome]:
    dataset = {**DATASET, "validationFraction": 0.5}
    request = request_of(tmp_path_factory.mktemp("job"), model, rows(), dataset=dataset)
    return request, run_prepare(request)


@pytest.fixture(scope="module")
def trained(request_and_outcome: tuple[StageRequest, StageOutcome]) -> tuple[StageRequest, Trained]:
    request, outcome = request_and_outcome
    output = Path(request.base) / "trained"
    output.mkdir()
    of_train = request.model_copy(
        update={
            "stage": TRAIN.name,
            "output": str(output),
            "inputs": {PREPARE.name: result_of(outcome)},
        }
    )
    group = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))
    found = train_share(of_train, group=group, probed="fp32", is_first_here=True)
    assert "history" in found, found
    return of_train, found


def test_the_share_off_the_highlights_is_measured_beside_a_control(
    trained: tuple[StageRequest, Trained],
) -> None:
    _, found = trained
    assert found["control"] is not None
    for history in (found["history"], found["control"]):
        kinds = {point["kind"] for point in history["points"]}
        assert "offHighlights" in kinds
        shares = history["base_sums"]["offHighlights"]
        assert all(0.0 <= share <= 1.0 for share in shares)
        assert history["units"]["offHighlights"] == [1.0] * len(shares)
    # Both begin at the base, and go apart: the objective trains something else.
    assert found["history"]["base_sums"] == found["control"]["base_sums"]
    assert found["history"]["compared_sums"] != found["control"]["best_sums"]


def test_evaluation_tells_the_share_of_base_and_tuned_model_by_occlusion(
    trained: tuple[StageRequest, Trained], tmp_path: Path
) -> None:
    of_train, found = trained
    artifacts = [Artifact.model_validate(each) for each in found["artifacts"]]
    tuned = result_of(StageOutcome(message="", artifacts=artifacts, facts={}))
    inputs = {**of_train.inputs, TRAIN.name: tuned.model_copy(update={"stage": TRAIN.name})}
    request = of_train.model_copy(
        update={"stage": EVALUATE.name, "output": str(tmp_path), "inputs": inputs}
    )

    outcome = evaluate(request, SilentReporter())

    written = json.loads(local_path(outcome.artifacts[0]).read_text())["highlights"]
    (told,) = [each for each in outcome.evaluation if each.suite == "highlights"]
    assert outcome.facts["highlights"] == written
    assert (told.value, told.base, told.n) == (written["share"], written["base"], written["rows"])
    assert written["method"] == "occlusion"
    assert 0.0 < written["share"] < 1.0
    assert written["interval"][0] <= written["share"] <= written["interval"][1]
    # One word of five.
    assert written["chance"] == pytest.approx(0.2)
    # Four steps teach nothing, and so it is told.
    warnings = "\n".join(outcome.warnings)
    is_gain = written["change"][0] > 0
    assert ("training.explanation shows no gain: by occlusion" in warnings) is not is_gain
    assert f"{written['rows']} of 20 held-out rows have highlights of use in because" in warnings
    (verdict,) = json.loads(local_path(outcome.artifacts[0]).read_text())["verdicts"]
    assert verdict["statement"].startswith("highlights highlightShare is ")


def test_rows_keep_their_highlights_through_prepare(
    request_and_outcome: tuple[StageRequest, StageOutcome],
) -> None:
    request, outcome = request_and_outcome
    inputs = {PREPARE.name: result_of(outcome)}
    prepared = load_prepared(request.model_copy(update={"inputs": inputs}))

    records = [*prepared.records("train"), *prepared.records("validation")]
    assert sum(bool(record.highlights) for record in records) == 20
    assert {one.text for record in records for one in record.highlights} == {"wet", "loud"}
    assert not [each for each in outcome.warnings if "highlights" in each]


def test_what_is_not_in_a_prompt_is_refused_by_its_line(tmp_path: Path, model: str) -> None:
    data = rows(8)
    data[4]["because"] = "dusty"

    with pytest.raises(BadInputError, match=r"rows\.jsonl:5: given because: text of 5 characters"):
        run_prepare(request_of(tmp_path, model, data))


def test_training_on_highlights_that_no_row_has_is_refused(tmp_path: Path, model: str) -> None:
    data = [{**row, "because": None} for row in rows(8)]

    with pytest.raises(BadInputError, match="training rows 0 have highlights") as refused:
        run_prepare(request_of(tmp_path, model, data))
    assert "name the column that has them" in refused.value.message
    measured = {key: value for key, value in TRAINING.items() if key != "explanation"}
    del measured["control"]
    # Measured alone, they may be none.
    run_prepare(request_of(tmp_path, model, data, training=measured))


def test_highlights_that_the_context_cuts_off_are_counted(tmp_path: Path, model: str) -> None:
    data = rows(8)
    for row in data[::2]:
        row["prompt"] += " " + "It has been like that for a year. " * 4
    dataset = {**DATASET, "overlong": "truncatePrompt"}
    training = {**TRAINING, "sequenceLength": 80}
    del training["control"], training["explanation"]

    outcome = run_prepare(request_of(tmp_path, model, data, dataset=dataset, training=training))

    warnings = "\n".join(outcome.warnings)
    assert "training rows with highlights, of" in warnings
    assert "the prompt no longer has them (cut off by training.sequenceLength" in warnings
