"""Packed rows are trained as they would be alone, and a model that mixes them is caught."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from small_models import small_model
from small_runs import ALONE, a_loop, a_train_config, losses, random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.dataloader import collate
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.loop import autocast
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.kl_to_base import (
    BaseReference,
    CrossEntropyNearBase,
    KlToBase,
)
from tunesmith_trainer.train.packing import (
    best_fit,
    bin_capacity,
    end_to_end,
    num_computed,
    one_per_line,
    packed_micro_batches,
)
from tunesmith_trainer.train.packing_choice import ANSWER, PackingDecision, decide_packing

CPU = torch.device("cpu")
TOKENS = random_rows(12)
ROWS = [7, 0, 3, 11, 5, 2]
PACKED = partial(end_to_end, max_tokens=200)
FULL = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 2},
    "optimizer": {"learningRate": 1e-2},
    "maxSteps": 12,
    "evaluateEverySteps": 3,
    "packing": "bfd",
}
LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=40)


class Killed(Exception):  # noqa: N818 - it is what happens, not what is wrong
    """The worker is gone."""


@given(LENGTHS, st.integers(1, 8), st.integers(1, 4))
@settings(max_examples=50)
def test_workers_share_the_rows_in_passes_within_the_bound(
    given_lengths: list[int], size: int, num_ranks: int
) -> None:
    lengths = np.array(given_lengths)
    capacity = bin_capacity(lengths, size=size)
    rows = list(range(len(lengths)))
    passes = [
        one
        for rank in range(num_ranks)
        for one in packed_micro_batches(
            rows, lengths=lengths, size=size, rank=rank, num_ranks=num_ranks
        )
    ]

    assert sorted(row for one in passes for row in one) == rows
    for one in passes:
        of_pass = [given_lengths[row] for row in one]
        bins = end_to_end(of_pass, max_tokens=capacity)
        assert sorted(place for line in bins for place in line) == list(range(len(one)))
        assert num_computed(of_pass, bins) <= capacity


def test_a_row_goes_into_the_fullest_bin_that_has_room() -> None:
    assert best_fit([6, 5, 4, 3, 2], capacity=10) == [[0, 2], [1, 3, 4]]


def test_a_row_longer_than_a_bin_has_one_of_its_own() -> None:
    assert best_fit([12, 4, 3], capacity=10) == [[0], [1, 2]]


def test_skewed_rows_leave_hardly_any_padding() -> None:
    lengths = np.random.default_rng(0).lognormal(4.0, 1.0, size=32).astype(int).clip(4, 1024)
    passes = packed_micro_batches(list(range(32)), lengths=lengths, size=4, rank=0, num_ranks=1)
    capacity = bin_capacity(lengths, size=4)
    computed = sum(
        num_computed(of_pass, end_to_end(of_pass, max_tokens=capacity))
        for of_pass in ([int(lengths[row]) for row in one] for one in passes)
    )

    assert lengths.sum() / computed > 0.98


def test_positions_restart_with_every_row_and_there_is_no_mask() -> None:
    tokens = TokenRows(
        input_ids=np.arange(1, 10, dtype=np.int32),
        trained=np.array([0, 1, 1, 0, 0, 0, 0, 1, 0], dtype=np.bool_),
        offsets=np.array([0, 5, 9], dtype=np.int64),
    )

    batch = collate(tokens, [0, 1], pad_id=0, device=CPU, lay_out=lambda _: [[1, 0]])

    assert batch.input_ids.tolist() == [[6, 7, 1, 2]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 0, 1]]
    assert batch.positions.tolist() == [1, 2, 3]
    assert batch.targets.tolist() == [8, 2, 3]
    assert batch.row_sums(torch.tensor([5.0, 1.0, 2.0])).tolist() == [3.0, 5.0]


@pytest.mark.parametrize("kind", ["crossEntropy", "smoothed", "nearBase"])
def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(kind: str) -> None:
    one, other = _adapted(), _adapted()
    packed, padded = (_objective(kind, lay_out=lay_out) for lay_out in (PACKED, one_per_line))
    batch = packed.collated(ROWS)
    assert batch.position_ids is not None
    assert len(batch.input_ids) < len(ROWS)

    mine, theirs = packed.summed_loss(one, ROWS), padded.summed_loss(other, ROWS)
    mine.backward()
    theirs.backward()

    assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)
    for got, expected in zip(one.parameters(), other.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_measures_have_the_losses_of_rows_in_their_order() -> None:
    model = _adapted()
    reference = BaseReference()
    # Divergence is a small difference of logarithms that each have an error of their own size.
    for packed, padded, atol in (
        (CrossEntropy(TOKENS, device=CPU, lay_out=PACKED), CrossEntropy(TOKENS, device=CPU), 1e-7),
        (
            KlToBase(TOKENS, reference=reference, device=CPU, lay_out=PACKED),
            KlToBase(TOKENS, reference=reference, device=CPU),
            1e-6,
        ),
    ):
        with torch.no_grad():
            got, expected = (kind.row_losses(model, ROWS) for kind in (packed, padded))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=atol)


def test_a_packed_run_has_the_curve_of_a_padded_one(tmp_path: Path) -> None:
    curves = [
        losses(
            a_loop(
                small_model(),
                config=a_train_config(training={**FULL, "packing": packing}),
                folder=tmp_path / packing,
            ).run()
        )
        for packing in ("bfd", "none")
    ]

    for got, expected in zip(*curves, strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_a_resumed_run_packs_as_it_would_have_done(tmp_path: Path) -> None:
    config = a_train_config(training=FULL, checkpoint={"everySteps": 4})
    undisturbed = a_loop(small_model(), config=config, folder=tmp_path / "a").run()

    def dies(history: History, *, epoch: float) -> None:
        if history.step == 11:
            raise Killed

    with pytest.raises(Killed):
        a_loop(small_model(), config=config, folder=tmp_path / "b", on_step=dies).run()
    second = a_loop(small_model(seed=9), config=config, folder=tmp_path / "b")

    assert losses(second.run()) == losses(undisturbed)
    assert second.resumed_from == 8


def test_what_is_asked_for_is_proven_and_kept(tmp_path: Path) -> None:
    model = _adapted().train()

    decision = _decide(model, folder=tmp_path, packing="bfd")

    assert decision.packing == "bfd"
    assert decision.padding_share < decision.padding_share_unpacked
    proof = decision.proof
    assert proof is not None
    assert proof.loss_difference == pytest.approx(0.0, abs=1e-6)
    assert proof.gradient_difference == pytest.approx(0.0, abs=1e-5)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    with _without_boundaries():
        assert _decide(model, folder=tmp_path, packing="bfd") == decision


def test_rows_that_see_each_other_are_refused(tmp_path: Path) -> None:
    with _without_boundaries(), pytest.raises(BadInputError, match="sdpa of llama") as caught:
        _decide(small_model(), folder=tmp_path, packing="bfd")

    assert caught.value.reason is Reason.INVALID_SPEC
    assert not (tmp_path / ANSWER).exists()


def test_or_padded_if_nobody_asked(tmp_path: Path) -> None:
    with _without_boundaries():
        decision = _decide(small_model(), folder=tmp_path, packing="auto")

    assert decision.packing == "none"
    assert decision.proof is not None
    assert not decision.proof.holds


def test_bf16_is_held_to_a_looser_bound(tmp_path: Path) -> None:
    config = a_train_config(training={"packing": "bfd", "precision": "bf16"})

    assert _decided(small_model(), config=config, folder=tmp_path).packing == "bfd"
    with _without_boundaries(), pytest.raises(BadInputError, match="packed rows apart"):
        _decided(small_model(), config=config, folder=tmp_path / "other")


def test_rows_of_one_length_are_left_alone(tmp_path: Path) -> None:
    even = TokenRows.of((list(range(1, 13)), [False, *[True] * 11]) for _ in range(24))

    decision = _decided(small_model(), config=a_train_config(), folder=tmp_path, tokens=even)

    assert decision.packing == "none"
    assert decision.proof is None
    assert decision.padding_share == 0


@pytest.mark.parametrize("packing", ["none", "auto"])
def test_nothing_is_proven_that_is_not_packed(packing: str, tmp_path: Path) -> None:
    objective = "sft" if packing == "none" else "dpo"

    decision = _decide(small_model(), folder=tmp_path, packing=packing, objective=objective)

    assert (decision.packing, decision.proof) == ("none", None)


def _decide(model: Any, *, folder: Path, **training: Any) -> PackingDecision:
    return _decided(model, config=a_train_config(training=training), folder=folder)


def _decided(
    model: Any, *, config: Any, folder: Path, tokens: TokenRows | None = None
) -> PackingDecision:
    folder.mkdir(exist_ok=True)
    return decide_packing(
        model,
        config=config,
        tokens=tokens or random_rows(24),
        group=ALONE,
        autocast=partial(autocast, CPU, precision=config.precision),
        folder=folder,
    )


@contextmanager
def _without_boundaries() -> Iterator[None]:
    """As in the trap: where a mask is given, transformers makes none from the positions."""
    import transformers.masking_utils as masks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "find_packed_sequence_indices", lambda _positions: None)
        yield


def _objective(kind: str, *, lay_out: Callable[..., Any]) -> CrossEntropy:
    if kind == "nearBase":
        return CrossEntropyNearBase(
            TOKENS,
            weight=0.3,
            reference=BaseReference(),
            device=CPU,
            regularization=Regularization(),
            lay_out=lay_out,
        )
    smoothing = 0.1 if kind == "smoothed" else 0.0
    return CrossEntropy(
        TOKENS,
        device=CPU,
        lay_out=lay_out,
        regularization=Regularization(label_smoothing=smoothing),
    )


def _adapted() -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(small_model(), config).eval()
