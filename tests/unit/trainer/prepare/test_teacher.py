"""A teacher that cannot teach this model is refused by prepare, before anything is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import asked, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError

QUESTIONS = tuple(f"What is wrong with device {number}?" for number in range(10))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "teacher", seed=1)


def prepared(root: Path, **training: Any) -> StageOutcome:
    make_tiny_model(root / "model")
    write_jsonl(root / "rows.jsonl", asked(*QUESTIONS))
    taught = {"teacher": {"model": {"uri": "file://teacher"}}}
    given = {"sequenceLength": 256, "batch": {"size": 2}, "distillation": taught, **training}
    return run_prepare(prepare_request(root, model="file://model", training=given))


def test_the_teacher_is_an_artifact_that_train_reads(tmp_path: Path, teacher: Path) -> None:
    outcome = prepared(tmp_path)

    (found,) = [artifact for artifact in outcome.artifacts if artifact.name == "teacher"]
    assert found.uri == teacher.as_uri()


def test_without_distillation_there_is_none(tmp_path: Path) -> None:
    outcome = prepared(tmp_path, distillation=None)

    assert "teacher" not in {artifact.name for artifact in outcome.artifacts}


def test_a_teacher_of_another_tokenizer_is_refused_with_what_to_do(
    tmp_path: Path, teacher: Path
) -> None:
    path = teacher / "tokenizer.json"
    told = json.loads(path.read_text())
    vocabulary = told["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(told))

    with pytest.raises(BadInputError) as caught:
        prepared(tmp_path)

    assert caught.value.message.startswith("training.distillation.teacher.model: file://teacher")
    assert "2 of these are not the same there" in caught.value.message
    assert "dataset.synthesis with generator.model" in caught.value.message


def test_a_teacher_that_cannot_read_the_longest_row_is_refused(
    tmp_path: Path, teacher: Path
) -> None:
    path = teacher / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 16}))

    with pytest.raises(BadInputError, match="its context has 16 tokens, and the longest row"):
        prepared(tmp_path)


def test_a_teacher_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="teacher"):
        prepared(tmp_path)
