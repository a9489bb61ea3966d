"""Margin and accuracy of held-out pairs, from the losses of both answers under both models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuned_job import SilentReporter, make_tuned_job, request_for
from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.preference import PairLosses, preference_results
from tunesmith_trainer.evaluate.stage import evaluate

SHORT = {"generation": {"metric": "none"}, "bootstrap": {"resamples": 200}}


def _losses(*sums: float) -> RowLosses:
    return RowLosses(sums=np.array(sums), weights=np.ones(len(sums)))


def test_rewards_are_what_answers_gained_on_the_base() -> None:
    base = PairLosses(chosen=_losses(10, 10, 10, 10), rejected=_losses(8, 12, 10, 8))
    # Gained by the chosen answer over the rejected one: 4, 1, 0 and −2 nats.
    tuned = PairLosses(chosen=_losses(7, 10, 10, 12), rejected=_losses(9, 13, 10, 8))

    found = {
        result.metric: result
        for result in preference_results(tuned, base=base, beta=0.5, settings=Bootstrap())
    }

    assert found["margin"].value == pytest.approx(0.5 * 3 / 4)
    assert found["accuracy"].value == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert (found["margin"].base, found["accuracy"].base) == (0.0, 0.5)
    # By likelihood: of the base 0, 1, ½ and 0 are right, of the tuned model 1, 1, ½ and 0.
    assert found["rankingAccuracy"].base == pytest.approx(1.5 / 4)
    assert found["rankingAccuracy"].value == pytest.approx(2.5 / 4)
    assert all(result.n == 4 and result.low is not None for result in found.values())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned job whose rows have a rejected answer: the chosen one, back to front."""
    root = make_tuned_job(tmp_path_factory.mktemp("pairs"))
    for split in ("train", "validation"):
        chosen = TokenRows.load(root / "data" / f"{split}.safetensors")
        rows = [chosen.row(index) for index in range(len(chosen))]
        turned = [([*ids[~mask], *ids[mask][::-1]], mask.tolist()) for ids, mask in rows]
        TokenRows.of(turned).save(root / "data" / f"{split}.rejected.safetensors")
    return root


def _evaluated(job: Path, output: Path, **evaluation: Any) -> StageOutcome:
    request = request_for(
        job,
        EVALUATE.name,
        output=output,
        training={"objective": "dpo", "sequenceLength": 256},
        evaluation={**SHORT, **evaluation},
    )
    return evaluate(request, SilentReporter())


def test_the_stage_measures_pairs_beside_the_chosen_answers(pairs: Path, tmp_path: Path) -> None:
    outcome = _evaluated(pairs, tmp_path, gates=[])

    measured = {(result.suite, result.metric) for result in outcome.evaluation}
    losses = {(suite, name) for suite in ("heldOut", "general") for name in ("loss", "perplexity")}
    metrics = {("preference", name) for name in ("margin", "accuracy", "rankingAccuracy")}
    assert measured == losses | metrics
    assert outcome.message.startswith("margin ")


def test_a_margin_below_its_gate_fails_the_job(pairs: Path, tmp_path: Path) -> None:
    gate = {"suite": "preference", "metric": "margin", "minDelta": 1e6}

    with pytest.raises(VerdictError, match="preference margin went from 0") as caught:
        _evaluated(pairs, tmp_path, gates=[gate])

    assert caught.value.reason == Reason.EVALUATION_GATE_FAILED
