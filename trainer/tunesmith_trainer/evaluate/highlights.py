"""`dataset.highlights` of held-out rows: how much of what moves a model's answer lies on them.

By occlusion, whatever a job was trained with. `evaluate` measures the base and the tuned model,
`compress` the tuned and the compressed one, each the same words of the same rows.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.explanation_objective import HIGHLIGHT_SHARE, HIGHLIGHTS
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.held_out_roles import record_key
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.evaluate.bootstrap import FEW_ROWS
from tunesmith_trainer.evaluate.generation import pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import score_rows
from tunesmith_trainer.evaluate.suites import Findings, Say
from tunesmith_trainer.explain.highlight_share import Occlusions
from tunesmith_trainer.explain.highlighted_rows import highlighted_rows
from tunesmith_trainer.fairness.measures import Measure, RatioMeasure, intervals
from tunesmith_trainer.fairness.sentences import spread

# Each is scored once more for every word of its prompt.
_MOST_ROWS = 100


@dataclass(frozen=True, slots=True)
class HighlightsTest:
    """Held-out rows with highlights, and all that is cut out of them.

    Attributes:
        occlusions: the rows, and their cut versions.
        clusters: the question of each row; rows with one depend on each other.
        pad_id: of the tokenizer.
        is_trained: whether the job trains by `training.explanation` what is judged here.
    """

    occlusions: Occlusions
    clusters: Sequence[Hashable]
    pad_id: int
    is_trained: bool

    def metrics(self) -> list[tuple[str, str]]:
        """Suite and metric of what a gate can name."""
        return [(HIGHLIGHTS, HIGHLIGHT_SHARE)]

    def measure(self, model: PreTrainedModel, say: Say) -> list[Measure]:
        """The mean share on highlights, each row alike, and that of words that all do as much."""
        scored = score_rows(
            model,
            self.occlusions.tokens,
            pad_id=self.pad_id,
            on_batch=partial(say, "words left out"),
        )
        shares = self.occlusions.shares(scored.sums)
        return [
            RatioMeasure.of(metric, values, clusters=self.clusters)
            for metric, values in (
                (HIGHLIGHT_SHARE, shares), ("chance", self.occlusions.chance)
            )
        ]  # fmt: skip


def load_highlights(
    request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> tuple[HighlightsTest | None, tuple[str, ...]]:
    """The test, where held-out rows have highlights of use, and what to know of them."""
    column = request.spec.dataset.highlights
    if column is None:
        return None, ()
    records = prepared.records("validation")
    found = highlighted_rows(records, prepared.validation, tokenizer)
    rows = spread(found.rows, most=_MOST_ROWS)
    warnings = [told] if (told := found.in_words("validation")) else []
    if len(rows) < FEW_ROWS:
        warnings.append(
            f"dataset.highlights: {len(rows)} of {len(records)} held-out rows have highlights of "
            f"use in {column}: with fewer than {FEW_ROWS} "
            + ("nothing is known of" if not rows else "little is known of")
            + " what the model decides by; give more rows to hold out some"
        )
    if not rows:
        return None, tuple(warnings)
    test = HighlightsTest(
        occlusions=Occlusions.of(rows),
        clusters=[record_key(records[row.number]) for row in rows],
        pad_id=pad_id_of(tokenizer),
        is_trained=request.spec.holds_to_highlights,
    )
    return test, tuple(warnings)


def highlights_findings(
    measured: Sequence[Measure], *, base: Sequence[Measure], split: str, settings: Bootstrap
) -> Findings:
    """What was measured of a model, beside the one that it was made from."""
    (share, chance), (before, _) = measured, base
    own, change = intervals(share, before, settings)
    result = EvaluationResult(
        suite=HIGHLIGHTS,
        split=split,
        metric=HIGHLIGHT_SHARE,
        value=share.value(),
        low=own.low if own else None,
        high=own.high if own else None,
        base=before.value(),
        n=share.num_rows,
    )
    record: dict[str, JsonValue] = {
        "method": "occlusion",
        "share": share.value(),
        "interval": [own.low, own.high] if own else None,
        "base": before.value(),
        "change": [change.low, change.high] if change else None,
        "chance": chance.value(),
        "rows": share.num_rows,
        "clusters": share.num_clusters,
    }
    return Findings([result], record)


def warning_of_no_gain(record: dict[str, JsonValue]) -> list[str]:
    """A sentence where a job that trains on highlights does not lie on them more than its base."""
    change = record["change"]
    if isinstance(change, list) and isinstance(change[0], float) and change[0] > 0:
        return []
    ends = f"{change[0]:.3f} to {change[1]:.3f}" if isinstance(change, list) else "of no interval"
    warning = (
        f"training.explanation shows no gain: by occlusion {record['share']:.3f} of what moves the "
        f"answers of held-out rows lies on their highlights, of the base {record['base']:.3f} (the "
        f"change is {ends}); raise its weight, or leave it out"
    )
    return [warning]
