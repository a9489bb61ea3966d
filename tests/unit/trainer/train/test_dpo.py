"""DPO against its formula written out, its reference, and runs that learn to prefer."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prepare_stage import prepare_request
from small_models import small_model
from small_runs import ALONE, a_train_config, losses, random_rows
from tunesmith_api.finetunejob.preference import Dpo
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train import run_parts
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.fencing import fence_of
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.loop import Loop, autocast
from tunesmith_trainer.train.objectives.dpo import DirectPreference, preference_measures
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.objectives.reference import ReferencePass

CHOSEN, REJECTED = random_rows(5), random_rows(5, seed=7)
ROWS = [3, 0, 4]
TRAINING = {
    "objective": "dpo",
    "method": "full",
    "precision": "fp32",
    "batch": {"size": 8, "microBatchSize": 3},
    "optimizer": {"learningRate": 3e-3},
    "maxSteps": 12,
    "evaluateEverySteps": 3,
}


def _log_probabilities(model: Any, tokens: TokenRows, rows: list[int]) -> torch.Tensor:
    """Row by row, with logits for every position."""
    sums = []
    for row in rows:
        ids, trained = tokens.row(row)
        inputs = torch.from_numpy(ids.astype(np.int64))
        logprobs = model(input_ids=inputs[None]).logits[0].log_softmax(-1)
        of_next = logprobs[:-1].gather(1, inputs[1:, None])[:, 0]
        sums.append(of_next[torch.from_numpy(trained[1:].copy())].sum())
    return torch.stack(sums)


def _written_out(model: Any, base: Any, *, settings: Dpo) -> torch.Tensor:
    good, bad = (_log_probabilities(model, side, ROWS) for side in (CHOSEN, REJECTED))
    with torch.no_grad():
        base_good, base_bad = (_log_probabilities(base, side, ROWS) for side in (CHOSEN, REJECTED))
    margin = settings.beta * ((good - bad) - (base_good - base_bad))
    smoothing = settings.label_smoothing
    loss = -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)
    targets = torch.tensor([int(CHOSEN.row(row)[1].sum()) for row in ROWS])
    return (loss - settings.sft_weight * good / targets).sum()


def _objective(base: Any, *, settings: Dpo) -> DirectPreference:
    pairs = Pairs(CHOSEN, REJECTED, device=ALONE.device)
    with torch.no_grad():
        reference = pairs.log_probabilities(base, [0, 1, 2, 3, 4])
    return DirectPreference(pairs, reference, settings=settings)


@pytest.mark.parametrize(
    "settings",
    [Dpo(), Dpo(beta=0.5), Dpo(label_smoothing=0.2), Dpo(beta=0.3, sft_weight=1.5)],
    ids=str,
)
def test_loss_and_gradients_are_those_of_the_formula(settings: Dpo) -> None:
    base, one, other = small_model(), small_model(seed=1), small_model(seed=1)

    got = _objective(base, settings=settings).summed_loss(one, ROWS)
    expected = _written_out(other, base, settings=settings)
    got.backward()
    expected.backward()

    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_of_the_reference_itself_loss_is_ln_2_margin_0_and_accuracy_one_half() -> None:
    base = small_model()
    measures = preference_measures(_objective(base, settings=Dpo(sft_weight=1.0)))

    found = {
        kind: measure.row_losses(base, ROWS).sum().item() for kind, measure in measures.items()
    }

    assert found["heldOut"] == pytest.approx(3 * math.log(2), rel=1e-6)
    assert found["margin"] == pytest.approx(0.0, abs=1e-5)
    assert measures["accuracy"].num_units(ROWS) == 3


def test_sides_of_unequal_number_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="5 chosen answers and 4 rejected ones"):
        Pairs(CHOSEN, random_rows(4), device=ALONE.device)


def test_a_run_learns_to_prefer_from_a_margin_of_exactly_0(tmp_path: Path) -> None:
    config = a_train_config(training=TRAINING)

    history = _loop(small_model(), config=config, output=tmp_path).run()

    assert history.measured_at(0, kind="margin") == 0.0
    assert history.measured_at(0, kind="accuracy") == 0.5
    assert history.held_out_at(0) == pytest.approx(math.log(2), rel=1e-6)
    # The held-out pairs are those that were trained: what is asked is the direction.
    margins = [history.measured_at(step, kind="margin") for step in (3, 12)]
    assert margins[1] > margins[0] > 0.0
    assert history.measured_at(12, kind="accuracy") == 1.0
    assert history.best_step == 12


def test_adapters_are_held_to_the_model_without_them(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    training = {**TRAINING, "method": "lora", "lora": {"dropout": 0.3}}
    torch.manual_seed(0)
    lora = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.3, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(small_model(), lora)

    history = _loop(model, config=a_train_config(training=training), output=tmp_path).run()

    # Dropout is off where the reference speaks.
    assert history.measured_at(0, kind="margin") == 0.0
    assert history.measured_at(12, kind="margin") > 0.0


def test_a_resumed_run_has_the_same_curve_though_its_model_is_another_at_its_start(
    tmp_path: Path,
) -> None:
    config = a_train_config(training=TRAINING, checkpoint={"everySteps": 4})
    undisturbed = _loop(small_model(), config=config, output=tmp_path / "a").run()

    class Killed(Exception):  # noqa: N818 - it is what happens, not what is wrong
        pass

    def dies(history: History, *, epoch: float) -> None:
        if history.step == 10:
            raise Killed

    with pytest.raises(Killed):
        _loop(small_model(), config=config, output=tmp_path / "b", on_step=dies).run()
    second = _loop(small_model(seed=9), config=config, output=tmp_path / "b")

    assert losses(second.run()) == losses(undisturbed)
    assert second.resumed_from == 9


def test_only_what_is_drawn_is_computed_and_that_once(tmp_path: Path) -> None:
    pairs = Pairs(CHOSEN, REJECTED, device=ALONE.device)
    base = small_model()
    first = _pass(base)
    values, _ = first.log_probabilities(pairs, [1, 3], file=tmp_path / "reference")

    kept, _ = _pass(small_model(seed=1)).log_probabilities(
        pairs, [1, 3], file=tmp_path / "reference"
    )
    other_run = replace(_pass(small_model(seed=1)), config_digest="other")
    computed, _ = other_run.log_probabilities(pairs, [1, 3], file=tmp_path / "reference")

    assert values[:, [0, 2, 4]].eq(0.0).all()
    assert torch.equal(values[:, [1, 3]], _pass_values(pairs, base))
    assert torch.equal(kept, values)
    assert not torch.equal(computed, values)


def test_a_reference_that_was_cut_off_is_computed_again(tmp_path: Path) -> None:
    pairs = Pairs(CHOSEN, REJECTED, device=ALONE.device)
    (tmp_path / "reference").write_bytes(b"\x10")

    values, _ = _pass(small_model()).log_probabilities(pairs, [0], file=tmp_path / "reference")

    assert values[0, 0] < 0.0


def _pass(model: Any) -> ReferencePass:
    return ReferencePass(
        model=model,
        group=ALONE,
        autocast=partial(autocast, ALONE.device, precision="fp32"),
        micro_batch_size=4,
        config_digest="run",
    )


def _pass_values(pairs: Pairs, model: Any) -> torch.Tensor:
    with torch.no_grad():
        # As micro batches are laid out: longest first.
        rows = sorted([1, 3], key=lambda row: -int(pairs.lengths[row]))
        values = pairs.log_probabilities(model.eval(), rows)
    return values[:, [rows.index(1), rows.index(3)]]


def _loop(model: Any, *, config: TrainConfig, output: Path, on_step: Any = None) -> Loop:
    output.mkdir(exist_ok=True)
    prepared = Prepared(
        model=output,
        train=CHOSEN,
        validation=CHOSEN,
        folder=output,
        rejected={"train": REJECTED, "validation": REJECTED},
    )
    # The general text needs a tokenizer, which a model of random weights has not.
    with patch.object(run_parts, "general_rows", lambda *_: CHOSEN):
        parts = run_parts.run_parts(
            model,
            request=prepare_request(output, model="file://model").model_copy(
                update={"output": str(output)}
            ),
            prepared=prepared,
            config=config,
            group=ALONE,
        )
    return run_parts.build_loop(
        model,
        parts,
        prepared=prepared,
        config=config,
        group=ALONE,
        checkpoints=output / "checkpoints",
        fence=fence_of(None, output=output),
        on_step=on_step,
    )
