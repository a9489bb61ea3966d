"""Tasks of lm-evaluation-harness on a tiny model: numbers, intervals, gates, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuned_job import SilentReporter, request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.evaluate import harness
from tunesmith_trainer.evaluate.harness import load_tasks, require_harness, score_tasks
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring, token_logprobs
from tunesmith_trainer.evaluate.stage import evaluate
from tunesmith_trainer.models import load_tokenizer

CHOICES = ["red", "green", "dark blue"]
TASK: dict[str, Any] = {
    "task": "colours",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl", "train": "rows.jsonl"}},
    "test_split": "test",
    "fewshot_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ],
}
SUITE = {"name": "colours", "task": "colours"}
SHORT = {"generation": {"metric": "none"}, "bootstrap": {"resamples": 200}}


def rows() -> list[dict[str, Any]]:
    return [
        {"question": f"Page {number}: the lamp is", "choices": CHOICES, "label": number % 3}
        for number in range(12)
    ]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write_task(tmp_path / "tasks")


def write_task(folder: Path, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows())))
    # JSON is YAML.
    (folder / "colours.yaml").write_text(json.dumps(TASK | settings))
    return folder


def requested(job: Path, output: Path, tasks: Path, **evaluation: Any) -> Any:
    suite = {**SUITE, "uri": f"file://{tasks}", **evaluation.pop("suite", {})}
    given = {**SHORT, "gates": [], "suites": [suite], **evaluation}
    return request_for(job, EVALUATE.name, output=output, evaluation=given)


def evaluated(job: Path, output: Path, tasks: Path, **evaluation: Any) -> StageOutcome:
    return evaluate(requested(job, output, tasks, **evaluation), SilentReporter())


def test_every_metric_is_measured_of_base_and_tuned_model(
    job: Path, tmp_path: Path, tasks: Path
) -> None:
    outcome = evaluated(job, tmp_path / "out", tasks)

    found = {one.metric: one for one in outcome.evaluation if one.suite == "colours"}
    assert set(found) == {"acc", "acc_norm"}
    assert all(one.n == 12 and one.base is not None for one in found.values())
    assert all(one.low is not None and one.low <= one.value for one in found.values())
    assert outcome.versions["lm-eval"]


def test_the_numbers_are_those_of_the_model_itself(job: Path, tmp_path: Path, tasks: Path) -> None:
    """The harness's choice is the one whose tokens are likeliest by our own scoring."""
    request = requested(job, tmp_path / "out", tasks, suite={"metric": "acc"})
    model, tokenizer = load_for_scoring(job / "model"), load_tokenizer(job / "model")

    scores = score_tasks(
        model, tokenizer, load_tasks(request), sequence_length=256, say=lambda *_: None
    )

    expected = []
    for row in rows():
        likelihoods = []
        for choice in CHOICES:
            ids = tokenizer(f"{row['question']} {choice}", add_special_tokens=False)["input_ids"]
            before = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
            likelihoods.append(sum(token_logprobs(model, ids, num_last=len(ids) - len(before))))
        expected.append(float(np.argmax(likelihoods) == row["label"]))
    assert set(scores) == {("colours", "acc")}
    found = scores["colours", "acc"].scores
    assert found is not None
    assert found.tolist() == expected


def test_rows_and_examples_are_those_that_are_asked_for(
    job: Path, tmp_path: Path, tasks: Path
) -> None:
    given = requested(job, tmp_path / "out", tasks, suite={"limit": 5, "numFewshot": 2})
    (task,) = load_tasks(given)
    model, tokenizer = load_for_scoring(job / "model"), load_tokenizer(job / "model")

    scores = score_tasks(model, tokenizer, [task], sequence_length=256, say=lambda *_: None)

    assert scores["colours", "acc"].num_rows == 5
    # Two solved examples and the question.
    assert task.task.instances[0].arguments[0].count("the lamp is") == 3


def test_a_gate_may_be_about_a_suite(job: Path, tmp_path: Path, tasks: Path) -> None:
    gate = {"suite": "colours", "metric": "acc", "min": 1.0}

    with pytest.raises(VerdictError, match="colours acc is"):
        evaluated(job, tmp_path / "out", tasks, gates=[gate])


def test_a_gate_on_what_the_task_does_not_measure_is_refused_first(
    job: Path, tmp_path: Path, tasks: Path
) -> None:
    gate = {"suite": "colours", "metric": "f1", "min": 1.0}

    with pytest.raises(BadInputError, match="colours f1 is not measured"):
        evaluated(job, tmp_path / "out", tasks, gates=[gate])


def test_a_metric_that_the_task_has_not_is_told_with_those_it_has(
    job: Path, tmp_path: Path, tasks: Path
) -> None:
    with pytest.raises(BadInputError, match="it measures acc, acc_norm"):
        load_tasks(requested(job, tmp_path / "out", tasks, suite={"metric": "f1"}))


def test_a_missing_folder_is_told_by_its_address(job: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing was found at"):
        load_tasks(requested(job, tmp_path / "out", tmp_path / "nowhere"))


def test_a_template_cannot_reach_into_python(job: Path, tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    tasks = write_task(tmp_path / "tasks", doc_to_text=escape)

    with pytest.raises(BadInputError, match="unsafe"):
        load_tasks(requested(job, tmp_path / "out", tasks))


def test_a_metric_that_would_be_looked_for_elsewhere_is_refused(job: Path, tmp_path: Path) -> None:
    tasks = write_task(tmp_path / "tasks", metric_list=[{"metric": "./own_metric"}])

    with pytest.raises(BadInputError, match=r"asks for the metric \./own_metric"):
        load_tasks(requested(job, tmp_path / "out", tasks))


def test_a_column_that_is_not_there_is_named(job: Path, tmp_path: Path) -> None:
    tasks = write_task(tmp_path / "tasks", doc_to_text="{{qestion}}")

    with pytest.raises(BadInputError, match="'qestion' is undefined"):
        load_tasks(requested(job, tmp_path / "out", tasks))


def test_a_generated_answer_is_scored_through_its_filters(job: Path, tmp_path: Path) -> None:
    tasks = write_task(
        tmp_path / "tasks",
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="{{choices[label]}}",
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        generation_kwargs={"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
        filter_list=[
            {"name": "word", "filter": [{"function": "take_first"}]},
        ],
    )
    request = requested(job, tmp_path / "out", tasks, suite={"limit": 2})
    model, tokenizer = load_for_scoring(job / "model"), load_tokenizer(job / "model")

    scores = score_tasks(
        model, tokenizer, load_tasks(request), sequence_length=256, say=lambda *_: None
    )

    assert set(scores) == {("colours", "exact_match,word")}


def test_without_the_extra_the_package_is_named(
    job: Path, tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "_PACKAGE", "lm_eval_that_nobody_has")

    with pytest.raises(BadInputError, match=r"pip install 'tunesmith\[eval\]'") as caught:
        require_harness(requested(job, tmp_path / "out", tasks).spec)

    assert caught.value.reason == Reason.ENVIRONMENT_MISSING
