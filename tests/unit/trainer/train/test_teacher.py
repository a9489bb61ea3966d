"""A job that learns from a teacher minimises what it says, and measures how far it is from it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from small_models import make_tiny_model
from small_runs import ALONE, a_train_config
from tuned_job import make_tuned_job, request_for
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_trainer.data.prepared import load_prepared
from tunesmith_trainer.models import load_model
from tunesmith_trainer.train.history import TEACHER_KL
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.distillation import TeacherDivergence, TeacherLogits
from tunesmith_trainer.train.run_parts import RunParts, run_parts

TEACHER = {"teacher": {"model": {"uri": "file://teacher"}}}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_tuned_job(tmp_path_factory.mktemp("job"))
    make_tiny_model(root / "teacher", seed=1)
    return root


def request_of(job: Path, output: Path, training: dict[str, Any]) -> StageRequest:
    request = request_for(job, TRAIN.name, output=output, training=training)
    prepared = request.inputs[PREPARE.name]
    teacher = artifact_of("teacher", job / "teacher")
    prepared = prepared.model_copy(update={"artifacts": [*prepared.artifacts, teacher]})
    return request.model_copy(update={"inputs": {**request.inputs, PREPARE.name: prepared}})


def parts_of(job: Path, output: Path, **distillation: Any) -> RunParts:
    training = {
        "method": "full", "sequenceLength": 256, "batch": {"size": 2},
        "distillation": TEACHER | distillation,
    }  # fmt: skip
    return run_parts(
        None,
        request=request_of(job, output, training),
        prepared=load_prepared(request_of(job, output, training)),
        config=a_train_config(num_rows=4, training=training),
        group=ALONE,
    )


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_loss_is_weighed_between_the_answers_and_the_teacher(
    job: Path, tmp_path: Path, weight: float
) -> None:
    parts = parts_of(job, tmp_path, weight=weight)
    student, teacher = (
        load_model(job / name, dtype=torch.float32) for name in ("model", "teacher")
    )
    rows = load_prepared(request_of(job, tmp_path, {"sequenceLength": 256})).train
    plain = CrossEntropy(rows, device=ALONE.device).summed_loss(student, [0, 1]).item()
    divergence = TeacherDivergence(
        rows, knowledge=TeacherLogits(teacher), device=ALONE.device
    ).row_losses(student, [0, 1])

    loss = parts.objective.summed_loss(student, [0, 1]).item()

    expected = (1 - weight) * plain + weight * divergence.sum().item()
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_student_may_answer_for_itself_with_adapters_as_well(job: Path, tmp_path: Path) -> None:
    objective = parts_of(job, tmp_path, onPolicy=1.0, weight=1.0).objective
    student = get_peft_model(
        load_model(job / "model", dtype=torch.float32),
        LoraConfig(target_modules="all-linear", init_lora_weights=False),
    )

    loss = objective.summed_loss(student.train(), [0, 1])
    loss.backward()

    assert loss.item() > 0
    trained = [each for each in student.parameters() if each.requires_grad]
    assert all(each.grad is not None for each in trained)


def test_the_divergence_from_the_teacher_is_measured_on_held_out_rows(
    job: Path, tmp_path: Path
) -> None:
    measure = parts_of(job, tmp_path).measures[TEACHER_KL]
    student, teacher = (
        load_model(job / name, dtype=torch.float32) for name in ("model", "teacher")
    )
    rows = list(range(len(measure.lengths)))

    assert measure.row_losses(student, rows).sum() > 0.01
    assert measure.row_losses(teacher, rows).abs().max() < 1e-4


def test_a_teacher_with_a_wider_table_is_compared_over_what_both_have(job: Path) -> None:
    student, teacher = (
        load_model(job / name, dtype=torch.float32) for name in ("model", "teacher")
    )
    rows = load_prepared(request_for(job, TRAIN.name, output=job / "out")).train
    measure = TeacherDivergence(rows, knowledge=TeacherLogits(teacher), device=ALONE.device)
    before = measure.row_losses(student, [0]).item()

    teacher.resize_token_embeddings(teacher.config.vocab_size + 64, mean_resizing=False)

    assert measure.row_losses(student, [0]).item() == pytest.approx(before, rel=1e-4)
