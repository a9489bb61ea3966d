"""What a run's remedies came to: outcomes with intervals, and what a control run shows."""

from pathlib import Path
from typing import Any

import pytest

from manifests import a_job
from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, TRAIN_SAMPLE, History
from tunesmith_trainer.train.remedies import (
    REMEDIES,
    compare,
    controlled,
    outcome,
    remedies,
    warnings_of,
    without_remedies,
)

ON: dict[str, Any] = {
    "lora": {"dropout": 0.1},
    "regularization": {"labelSmoothing": 0.1, "neftuneNoiseAlpha": 5.0},
    "earlyStopping": {"patience": 3, "minDelta": 0.01},
}


def test_a_gap_is_the_held_out_loss_less_that_of_the_training_rows() -> None:
    known = outcome(_a_history())

    assert known["gap"].value == pytest.approx(2.5 - 1.0)
    assert known["baseGap"].value == pytest.approx(3.0 - 2.8)
    assert known["gapRise"].value == pytest.approx(1.5 - 0.2)
    assert known["heldOutLossRise"].value == pytest.approx(-0.5)
    assert known["generalLossRise"].value == pytest.approx(0.25)
    for estimate in known.values():
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high


def test_a_rise_is_paired_by_row() -> None:
    """Rows of very different losses, all of which rise alike: there is no doubt about the rise."""
    known = outcome(_a_history())["generalLossRise"]

    assert known.low == pytest.approx(known.high)


def test_every_remedy_that_is_on_is_told_with_its_setting() -> None:
    rows = {row.remedy: row for row in remedies(_spec(ON), _a_history(), planned_steps=100)}

    assert {name: row.setting for name, row in rows.items()} == {
        "training.optimizer.weightDecay": "0.01",
        "training.lora.dropout": "0.1",
        "training.regularization.labelSmoothing": "0.1",
        "training.regularization.neftuneNoiseAlpha": "5.0",
        "training.earlyStopping": "patience 3, minDelta 0.01",
    }
    assert rows["training.earlyStopping"].cost == {"stepsSaved": 60}
    assert rows["training.lora.dropout"].as_fact()["effect"] == {
        name: outcome(_a_history())[name].as_fact() for name in ("gap", "gapRise")
    }


_ALONE: dict[str, Any] = {
    "fairness": {"method": "groupDro"},
    "explanation": {"method": "attribution"},
}


@pytest.mark.parametrize("kind", REMEDIES, ids=lambda kind: kind.remedy)
def test_every_remedy_can_be_switched_off(kind: Any) -> None:
    training = {
        **ON,
        "method": "lora",
        "optimizer": {"layerDecay": 0.9},
        "regularization": dict.fromkeys(_NOISES, 0.1),
        "klToBase": {"weight": 0.1},
        "adversarial": {"epsilon": 0.1},
        "freeze": {"layers": 1},
    }
    rows = {"uri": "file://rows.jsonl"}
    dataset = {"train": rows, "replay": {"ratio": 0.25, "source": rows}}
    if (name := kind.remedy.removeprefix("training.")) in _ALONE:
        # Each changes the loss by itself.
        training = {**ON, name: _ALONE[name]}
        dataset |= {"highlights": "because"} if name == "explanation" else {}
    spec = _spec(training, dataset=dataset)

    assert kind.is_on(spec)
    assert kind.setting(spec)
    assert not kind.is_on(kind.without(spec))


def test_the_control_has_none_of_the_remedies_and_is_the_same_in_all_else() -> None:
    spec = without_remedies(_spec(ON))

    off = {"lora": {"dropout": 0.0}, "optimizer": {"weightDecay": 0.0}}
    assert spec == _spec(off)
    with pytest.raises(BadInputError, match=r"training\.control: no remedy is on"):
        without_remedies(spec)


def test_a_control_run_is_compared_at_the_step_where_it_ended(tmp_path: Path) -> None:
    spec, ours, theirs = _compared(tmp_path, weight_decay=0.9)

    control = compare(spec, ours, theirs)

    assert control.steps == theirs.step == 5
    assert control.without == ["training.optimizer.weightDecay"]
    at_end = {kind: _loss_at(ours, kind, 5) - _loss_at(theirs, kind, 5) for kind in ours.units}
    assert control.differences["heldOutLoss"].value == pytest.approx(at_end[HELD_OUT])
    assert control.differences["generalLoss"].value == pytest.approx(at_end[GENERAL])
    gap = at_end[HELD_OUT] - at_end[TRAIN_SAMPLE]
    assert control.differences["gap"].value == pytest.approx(gap)
    assert control.seconds == theirs.seconds > 0


def test_a_remedy_without_any_strength_changes_nothing_and_is_warned_of(tmp_path: Path) -> None:
    """With all but no decay both runs have one curve, so order, seed and rates are the same."""
    spec, ours, theirs = _compared(tmp_path, weight_decay=1e-12)

    control = compare(spec, ours, theirs)

    steps = [point for point in losses(ours) if point["kind"] == "train"][:5]
    assert steps == [point for point in losses(theirs) if point["kind"] == "train"]
    assert control.differences["gap"].value == pytest.approx(0.0, abs=1e-9)
    assert not control.shows_gain
    (warning,) = warnings_of(spec, ours, control=control, planned_steps=8)
    assert "the remedies show no gain: after 5 steps they changed, in nats," in warning
    assert "the gap +0.000" in warning


def test_a_gap_that_widened_is_told_of_remedies_that_somebody_asked_for() -> None:
    history = _a_history()

    (warning,) = warnings_of(
        _spec({"lora": {"dropout": 0.1}}), history, control=None, planned_steps=40
    )

    assert "raised the gap between held-out and training loss by +1.300" in warning
    assert "in spite of training.lora.dropout;" in warning
    (warning,) = warnings_of(
        _spec({"klToBase": {"weight": 0.1}}), history, control=None, planned_steps=40
    )
    assert "raised the loss on general text by +0.250" in warning
    assert "in spite of training.klToBase;" in warning
    assert warnings_of(_spec({}), history, control=None, planned_steps=40) == []


def test_early_stopping_that_saved_nothing_says_so() -> None:
    spec = _spec({"earlyStopping": {"patience": 3}})

    assert warnings_of(spec, _a_history(), control=None, planned_steps=41) == []
    (warning,) = warnings_of(spec, _a_history(), control=None, planned_steps=40)
    assert "saved no step" in warning


_NOISES = ("labelSmoothing", "neftuneNoiseAlpha", "attentionDropout", "embeddingDropout")


def _spec(training: dict[str, Any], **spec: Any) -> FineTuneJobSpec:
    return FineTuneJob.model_validate(a_job(training=training, **spec)).spec.with_defaults()


def _a_history() -> History:
    """Twelve rows of each kind: held-out 3 to 2.5 nats, trained 2.8 to 1, general 0.25 up."""
    units = [float(row % 4 + 1) for row in range(12)]
    spread = [(-1.0) ** row / units[row] for row in range(12)]

    def rows(loss: float) -> list[float]:
        return [unit * (loss + part) for unit, part in zip(units, spread, strict=True)]

    return History(
        step=40,
        best_step=30,
        units=dict.fromkeys((HELD_OUT, TRAIN_SAMPLE, GENERAL), units),
        base_sums={HELD_OUT: rows(3.0), TRAIN_SAMPLE: rows(2.8), GENERAL: rows(4.0)},
        best_sums={HELD_OUT: rows(2.5), TRAIN_SAMPLE: rows(1.0), GENERAL: rows(4.25)},
    )


def _compared(folder: Path, *, weight_decay: float) -> tuple[FineTuneJobSpec, History, History]:
    training: dict[str, Any] = {
        "method": "full",
        "batch": {"size": 8, "microBatchSize": 8},
        "optimizer": {"learningRate": 1e-2, "weightDecay": weight_decay},
        "maxSteps": 8,
        "evaluateEverySteps": 3,
        "control": {"steps": 5},
    }
    spec = _spec(training)
    with_it = a_train_config(training=training)
    optimizer = {**training["optimizer"], "weightDecay": 0.0}
    without = a_train_config(training={**training, "optimizer": optimizer, "evaluateEverySteps": 5})
    ours = a_loop(small_model(), config=with_it, folder=folder / "a").run()
    theirs = a_loop(small_model(), config=without, folder=folder / "b", last_step=5).run()
    assert [kind.remedy for kind in controlled(spec)] == ["training.optimizer.weightDecay"]
    return spec, ours, theirs


def _loss_at(history: History, kind: str, step: int) -> float:
    (loss,) = (
        float(str(point["loss"]))
        for point in history.points
        if (point["kind"], point["step"]) == (kind, step)
    )
    return loss
