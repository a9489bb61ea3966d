"""The losses that are looked at while a run trains, and the samples of rows that they are of.

Each costs a forward pass over its rows at every evaluation, so those beside the held-out rows are
samples.
"""

import logging
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_api.finetunejob.adversarial import Adversarial
from tunesmith_api.finetunejob.explanation_objective import ExplanationObjective
from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.general_text import load_general_text
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.train.attribution_objective import OffHighlights, rows_of_split
from tunesmith_trainer.train.group_objective import LayOutOf, group_rows
from tunesmith_trainer.train.history import (
    ATTACKED,
    GENERAL,
    HELD_OUT,
    KL,
    OFF_HIGHLIGHTS,
    PAIRED_GAP,
    RATIONALE,
    TRAIN_SAMPLE,
)
from tunesmith_trainer.train.objectives.adversarial import (
    UnderAttack,
)
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.group_fairness import PairedGap
from tunesmith_trainer.train.objectives.kl_to_base import (
    BaseReference,
    KlToBase,
)
from tunesmith_trainer.train.objectives.objective import Measure
from tunesmith_trainer.train.rationale_objective import rationale_rows

_log = logging.getLogger(__name__)

# Targets of a sample: an interval over some hundred rows, in seconds on a processor.
MOST_TARGETS: Final = 4096
# Of forward passes: so long an attack takes. Of this part of the held-out tokens it costs about
# twice what the held-out rows do.
_PASSES_OF_ATTACK = 16
_ATTACKED_SHARE = 1 / 8
_FEWEST_ATTACKED_TOKENS = 1024
# Of rows with highlights and their cut versions, about what the held-out rows cost; an interval
# needs some thirty of them.
_FEWEST_CUT_TOKENS = 16_384
_MOST_CUT_ROWS = 64
# Of the general text at least so many, however few held-out rows there are.
_FEWEST_GENERAL_TARGETS = 512
# Tokens of a row of the general text; prepare's own rows may be far shorter than its passages.
_WIDEST_GENERAL = 256
_NARROWEST_GENERAL = 16
# Not the job's seed: two jobs on the same rows measure the same sample.
_SAMPLE_SEED = 0


def build_measures(
    request: StageRequest,
    prepared: Prepared,
    *,
    device: torch.device,
    reference: BaseReference | None = None,
    attack: Adversarial | None = None,
    remedy: FairnessRemedy | None = None,
    explanation: ExplanationObjective | None = None,
    lay_out_of: LayOutOf,
) -> dict[str, Measure]:
    """The losses that are looked at, by the kind of their points in the curve.

    The held-out rows; a sample of the training rows with as many targets, whose loss the held-out
    one is compared with; a sample of the general text; where it is bounded or punished, how far
    the model is from its base on held-out rows; these under an attack, where one is trained on;
    how far apart they are with the terms of two groups, where training is about those; and where
    people's reasons are learnt, the rationales of held-out rows, or what is off their highlights.
    """
    held_out = prepared.validation
    sample = sample_of(prepared.train, num_targets=wanted_targets(prepared))
    rows = {HELD_OUT: held_out, TRAIN_SAMPLE: sample, GENERAL: general_rows(request, prepared)}
    measures: dict[str, Measure] = {
        kind: CrossEntropy(tokens, device=device, lay_out=lay_out_of(tokens.lengths))
        for kind, tokens in rows.items()
    }
    if reference is not None:
        compared = sample_of(held_out, num_targets=MOST_TARGETS)
        measures[KL] = KlToBase(
            compared, reference=reference, device=device, lay_out=lay_out_of(compared.lengths)
        )
    if attack is not None:
        attacked = _attacked_rows(held_out)
        measures[ATTACKED] = UnderAttack(
            attacked, epsilon=attack.epsilon, device=device, lay_out=lay_out_of(attacked.lengths)
        )
    if remedy is not None:
        measures |= _paired_gap(remedy, request, prepared, device=device, lay_out_of=lay_out_of)
    if explanation is not None and explanation.learns_rationales:
        _, told = rationale_rows(
            explanation, request=request, prepared=prepared, split="validation"
        )
        if len(told):
            told = sample_of(told, num_targets=MOST_TARGETS)
            lay_out = lay_out_of(told.lengths)
            measures[RATIONALE] = CrossEntropy(told, device=device, lay_out=lay_out)
    elif explanation is not None:
        measures |= _off_highlights(prepared, device=device)
    return measures


def _off_highlights(prepared: Prepared, *, device: torch.device) -> dict[str, Measure]:
    """Nothing where no held-out row has highlights, of which `evaluate` warns."""
    rows = rows_of_split(prepared, "validation").rows
    if not rows:
        _log.warning("no held-out row has highlights of use: what is off them is not measured")
        return {}
    # Each row once more for each word that is cut out of it.
    costs = np.array([len(row.ids) * (1 + len(list(row.left_out()))) for row in rows])
    wanted = max(len(prepared.validation.input_ids), _FEWEST_CUT_TOKENS)
    chosen = [rows[place] for place in _drawn(costs, wanted=wanted)[:_MOST_CUT_ROWS]]
    return {OFF_HIGHLIGHTS: OffHighlights(chosen, device=device)}


def _paired_gap(
    remedy: FairnessRemedy,
    request: StageRequest,
    prepared: Prepared,
    *,
    device: torch.device,
    lay_out_of: LayOutOf,
) -> dict[str, Measure]:
    """Nothing where no held-out row names one group alone."""
    rows = group_rows(remedy, request=request, prepared=prepared, split="validation")
    first, other = rows.pairs()
    if not len(first):
        _log.warning("no held-out row names a group of training.fairness: no gap is measured")
        return {}
    sample = sample_rows(first, num_targets=MOST_TARGETS)
    first, other = first.subset(sample), other.subset(sample)
    lay_out = lay_out_of(first.lengths + other.lengths)
    return {PAIRED_GAP: PairedGap(first, other, device=device, lay_out=lay_out)}


def evaluation_cost(
    prepared: Prepared, *, batch_size: int, is_attacked: bool, is_highlighted: bool = False
) -> float:
    """About how many steps take as long as measuring every loss once.

    By tokens: a step also goes backward, which takes about twice as long as forward.
    """
    held_out = len(prepared.validation.input_ids)
    sample = min(held_out, MOST_TARGETS)
    measured = held_out + sample + max(sample, _FEWEST_GENERAL_TARGETS)
    if is_attacked:
        measured += _PASSES_OF_ATTACK * _attacked_tokens(prepared.validation)
    if is_highlighted:
        measured += max(held_out, _FEWEST_CUT_TOKENS)
    trained = batch_size * float(prepared.train.lengths.mean())
    return measured / (3.0 * trained)


def _attacked_rows(held_out: TokenRows) -> TokenRows:
    return held_out.subset(_drawn(held_out.lengths, wanted=_attacked_tokens(held_out)))


def _attacked_tokens(held_out: TokenRows) -> int:
    every = len(held_out.input_ids)
    return min(every, max(_FEWEST_ATTACKED_TOKENS, int(_ATTACKED_SHARE * every)))


def sample_of(rows: TokenRows, *, num_targets: int) -> TokenRows:
    """The rows that `sample_rows` draws."""
    return rows.subset(sample_rows(rows, num_targets=num_targets))


def sample_rows(rows: TokenRows, *, num_targets: int) -> list[int]:
    """Numbers of rows drawn without replacement until they have `num_targets` targets, ascending.

    All rows, if those have fewer; always at least one. The same rows for the same data.
    """
    targets = np.array([int(rows.row(row)[1].sum()) for row in range(len(rows))])
    return _drawn(targets, wanted=num_targets)


def _drawn(sizes: NDArray[np.int64], *, wanted: int) -> list[int]:
    """Rows drawn until their sizes sum up to `wanted`, ascending."""
    order = np.random.default_rng(_SAMPLE_SEED).permutation(len(sizes))
    num_rows = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    return [int(row) for row in np.sort(order[:num_rows])]


def wanted_targets(prepared: Prepared) -> int:
    """Targets of the sample of training rows: as many as are held out, but for very many."""
    return min(prepared.validation.num_targets, MOST_TARGETS)


def general_rows(request: StageRequest, prepared: Prepared) -> TokenRows:
    """A sample of the general text, as costly to measure as the held-out rows."""
    # Never longer than the rows that are trained: measuring needs no memory that training does not.
    longest = int(prepared.train.lengths.max())
    general = load_general_text(
        request,
        load_tokenizer(prepared.model),
        context_length=min(max(longest, _NARROWEST_GENERAL), _WIDEST_GENERAL),
    )
    # As costly as the held-out rows, which are measured as often.
    wanted = max(int(prepared.validation.lengths.sum()), _FEWEST_GENERAL_TARGETS)
    return sample_of(general.rows, num_targets=min(wanted, MOST_TARGETS))
