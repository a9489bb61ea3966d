"""Training that treats groups alike: the losses against their definitions, and exact resumption."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from small_models import small_model
from small_runs import ALONE, a_train_config, losses, random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.dataloader import RowSampler
from tunesmith_trainer.train.history import HELD_OUT, PAIRED_GAP, History
from tunesmith_trainer.train.loop import Loop
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.objectives.group_fairness import (
    GroupDro,
    PairedConsistency,
    PairedGap,
    WeightedCrossEntropy,
)
from tunesmith_trainer.train.objectives.group_weights import GroupWeights, balancing_weights
from tunesmith_trainer.train.packing import end_to_end, one_per_line

CPU = torch.device("cpu")
NUM_ROWS = 6
TOKENS = random_rows(NUM_ROWS)
ROWS = list(range(NUM_ROWS))
TARGETS = np.array([int(TOKENS.row(row)[1].sum()) for row in ROWS])
# Of the rows 1, 2 and 4, other prompts before the same answers: of those all targets compare.
NUMBERS = [1, 2, 4]
GROUPS = np.array([0, 1, 0, 2, 1, 2])
PLAIN = CrossEntropy(TOKENS, device=CPU)


def twins() -> Any:
    rows = []
    for number in NUMBERS:
        ids, trained = TOKENS.row(number)
        other = np.where(trained, ids, ids % 7 + 1)
        rows.append((other.tolist(), trained.tolist()))
    return type(TOKENS).of(rows)


def paired(
    distance: Literal["symmetricKl", "logLikelihood"], *, weight: float = 2.0, packed: bool = False
) -> PairedConsistency:
    lay_out = (lambda lengths: end_to_end(lengths, max_tokens=200)) if packed else one_per_line
    return PairedConsistency(
        TOKENS,
        numbers=NUMBERS,
        twins=twins(),
        weight=weight,
        distance=distance,
        device=CPU,
        lay_out=lay_out,
        regularization=Regularization(),
    )


def log_softmax_of(tokens: Any, row: int, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities at the targets of one row, and the targets."""
    batch = CrossEntropy(tokens, device=CPU).collated([row])
    hidden = predicting_states(model, batch)
    return hidden.logits(hidden.states).log_softmax(dim=-1), batch.targets


def expected_loss(distance: str, model: Any, *, weight: float) -> torch.Tensor:
    others = twins()
    total = torch.zeros(())
    for row in ROWS:
        own, targets = log_softmax_of(TOKENS, row, model)
        nll = F.nll_loss(own, targets, reduction="sum")
        total = total + nll
        if row not in NUMBERS:
            continue
        twin, _ = log_softmax_of(others, NUMBERS.index(row), model)
        if distance == "symmetricKl":
            apart = ((own.exp() - twin.exp()) * (own - twin)).sum() / 2
        else:
            other = F.nll_loss(twin, targets, reduction="sum")
            apart = (nll - other) ** 2 / len(targets)
        total = total + weight * apart
    return total


def gradients(model: Any) -> list[torch.Tensor]:
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("distance", ["symmetricKl", "logLikelihood"])
def test_paired_consistency_is_its_definition(
    distance: Literal["symmetricKl", "logLikelihood"], *, packed: bool
) -> None:
    model, other = small_model(), small_model()
    loss = paired(distance, packed=packed).summed_loss(model, ROWS)
    loss.backward()
    expected = expected_loss(distance, other, weight=2.0)
    expected.backward()

    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-4, atol=1e-3)
    assert expected.detach() > PLAIN.summed_loss(other, ROWS).detach() + 1e-3
    for got, wanted in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("distance", ["symmetricKl", "logLikelihood"])
def test_rows_without_a_twin_are_plain(
    distance: Literal["symmetricKl", "logLikelihood"],
) -> None:
    model = small_model()
    alone = [0, 3, 5]

    loss = paired(distance).summed_loss(model, alone)

    torch.testing.assert_close(loss, PLAIN.summed_loss(model, alone))


def test_a_row_with_a_twin_is_as_long_as_both() -> None:
    objective = paired("logLikelihood")

    longer = objective.lengths - TOKENS.lengths
    assert (longer[NUMBERS] == twins().lengths).all()
    assert (longer[[0, 3, 5]] == 0).all()
    assert objective.num_units(ROWS) == TOKENS.num_targets
    assert objective.token_counts(ROWS).total == objective.lengths.sum()


def test_weights_multiply_the_loss_of_each_row() -> None:
    model = small_model()
    weights = np.linspace(0.5, 3.0, NUM_ROWS)
    weighted = WeightedCrossEntropy(
        TOKENS,
        weights=weights,
        device=CPU,
        lay_out=lambda lengths: end_to_end(lengths, max_tokens=200),
        regularization=Regularization(),
    )

    loss = weighted.summed_loss(model, [4, 0, 3])

    of_rows = PLAIN.row_losses(model, [4, 0, 3])
    expected = (of_rows.detach() * torch.tensor(weights[[4, 0, 3]])).sum()
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-5, atol=1e-4)


def test_balanced_groups_count_alike_and_others_as_before() -> None:
    groups, targets = np.array([0, 0, 0, 1, -1]), np.array([10, 10, 10, 10, 10])

    full = balancing_weights(groups, targets, no_group=-1, strength=1.0)
    half = balancing_weights(groups, targets, no_group=-1, strength=0.5)

    assert full[:3].sum() == pytest.approx(full[3])
    assert full[:4].mean() == pytest.approx(1.0)
    assert full[4] == half[4] == 1.0
    assert 1.0 < half[3] < full[3]


def test_group_dro_moves_weight_to_the_group_with_the_higher_loss() -> None:
    weights = GroupWeights(np.array([0, 0, 1]), np.array([5, 5, 10]), step_size=1.0)
    assert weights.of_rows([0, 2]).tolist() == [1.0, 1.0]

    weights.note_pass([0, 2], np.array([5.0, 20.0]), [5, 10])
    weights.take_pass()
    weights.note_pass([1], np.array([1000.0]), [5])  # of a pass that does not count
    weights.move(weights.take_seen())

    ratio = np.exp(2.0) / np.exp(1.0)
    assert weights.state[1] / weights.state[0] == pytest.approx(ratio)
    assert sum(weights.state) == pytest.approx(1.0)
    assert weights.take_seen() == [0.0] * 4


def test_a_group_that_a_batch_lacks_keeps_its_weight_beside_the_others() -> None:
    weights = GroupWeights(np.array([0, 1]), np.array([5, 5]), step_size=0.5)

    weights.move([0.0, 0.0, 0.0, 0.0])

    assert weights.state == [0.5, 0.5]


def test_the_first_step_of_group_dro_is_that_of_plain_training() -> None:
    model = small_model()
    dro = GroupDro(
        TOKENS,
        weights=GroupWeights(GROUPS, TARGETS, step_size=0.1),
        device=CPU,
        lay_out=one_per_line,
        regularization=Regularization(),
    )

    torch.testing.assert_close(dro.summed_loss(model, ROWS), PLAIN.summed_loss(model, ROWS))


def test_the_paired_gap_is_the_difference_of_both_losses() -> None:
    model, first = small_model(), TOKENS.subset(NUMBERS)
    gap = PairedGap(first, twins(), device=CPU)

    with torch.no_grad():
        apart = gap.row_losses(model, [2, 0])
        ours = CrossEntropy(first, device=CPU).row_losses(model, [2, 0])
        theirs = CrossEntropy(twins(), device=CPU).row_losses(model, [2, 0])

    torch.testing.assert_close(apart, (ours - theirs).abs())
    assert gap.num_units([0, 1, 2]) == first.num_targets


def dro_loop(folder: Path, *, last_step: int | None = None) -> Loop:
    config = a_train_config(
        training={
            "maxSteps": 6,
            "batch": {"size": 4},
            "fairness": {"method": "groupDro", "strength": 2.0},
        },
        checkpoint={"everySteps": 2},
    )
    rows = random_rows(24)
    targets = np.array([int(rows.row(row)[1].sum()) for row in range(24)])
    weights = GroupWeights(np.arange(24) % 3, targets, step_size=2.0)
    held_out = random_rows(6, seed=1)
    return Loop(
        small_model(),
        config=config,
        objective=GroupDro(
            rows,
            weights=weights,
            device=CPU,
            lay_out=one_per_line,
            regularization=Regularization(),
        ),
        sampler=RowSampler(24, batch_size=4, seed=0),
        measures={
            HELD_OUT: CrossEntropy(held_out, device=CPU),
            "trainSample": CrossEntropy(rows.subset([0, 1, 2]), device=CPU),
            PAIRED_GAP: PairedGap(held_out, random_rows(6, seed=1), device=CPU),
        },
        group=ALONE,
        checkpoints=Checkpoints(folder, config_digest=config.digest(), keep=2),
        name_rows=lambda numbers: [str(number) for number in numbers],
        last_step=last_step,
        group_weights=weights,
    )


def test_a_resumed_run_goes_on_with_the_weights_of_its_groups(tmp_path: Path) -> None:
    whole = dro_loop(tmp_path / "whole").run()
    dro_loop(tmp_path / "cut", last_step=3).run()

    resumed = dro_loop(tmp_path / "cut")
    history = resumed.run()

    assert resumed.resumed_from == 3
    assert history.group_weights == whole.group_weights
    assert history.group_weights != [1 / 3] * 3
    of_training = [point for point in losses(history) if point["kind"] == "train"]
    assert of_training == [point for point in losses(whole) if point["kind"] == "train"]


def test_a_history_of_before_has_no_weights() -> None:
    state = History().as_state()
    del state["group_weights"]

    assert History(**state).group_weights == []
