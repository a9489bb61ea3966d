"""The section about pruning: the ladder from the tuned model down, and the way back up."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tunesmith_api.finetunejob.prune import CACHED_TOKENS
from tunesmith_cli.formats import counted, duration, number, percent, size
from tunesmith_cli.report.charts import Line, Point, loss_chart
from tunesmith_cli.report.components import Chart, Table, table_of
from tunesmith_cli.report.compression_records import DistillFacts, LadderRung
from tunesmith_cli.report.job_data import JobData

_NAMES: Final = {"tuned": "tuned", "pruned": "pruned", "distilled": "pruned and recovered"}
_OBJECTIVES: Final = {
    "forwardKl": "forward KL to the tuned model",
    "reverseKl": "reverse KL to the tuned model",
    "jensenShannon": "Jensen-Shannon divergence from the tuned model",
    "crossEntropy": "cross-entropy with the rows' answers",
}


@dataclass(frozen=True)
class DistillationSection:
    """What was taken away, what that cost, and what came back."""

    job: JobData

    @property
    def facts(self) -> DistillFacts:
        return self.job.distill

    @property
    def about(self) -> str:
        """In sentences, what was cut and how it was recovered."""
        facts = self.facts
        how = _OBJECTIVES.get(facts.objective, facts.objective)
        how += CACHED_TOKENS.get(facts.logits, "")
        outcome = "" if facts.accepted else " The gate refused it: the job goes on unpruned."
        return (
            f"{_cut(facts)} Recovered by {how}: {counted(facts.num_steps, 'step')} over "
            f"{facts.tokens:,} tokens in {duration(facts.seconds)}; {_gap(facts)}{outcome}"
        )

    @cached_property
    def ladder(self) -> Table | None:
        """A row for each model, the one that ships included where it is known."""
        rows = [_row(rung) for rung in self.facts.ladder]
        shipped = self.job.compress
        if rows and shipped.compressed_bytes and self.facts.accepted:
            losses = {suite: number(loss) for suite, loss in self.job.shipped_losses.items()}
            rows.append(
                (
                    f"as shipped ({shipped.scheme})",
                    rows[-1][1],
                    size(shipped.compressed_bytes),
                    losses.get("heldOut", ""),
                    losses.get("general", ""),
                    "",
                )
            )
        head = ("model", "parameters", "size", "held-out loss", "general loss", "KL to tuned")
        return table_of("The way down", head, rows, numeric=(1, 2, 3, 4, 5))

    @cached_property
    def curve(self) -> Chart | None:
        """The losses of the recovery by step; step 0 is the pruned model."""
        drawn = (
            Line(label, role, self._points(kind))
            for kind, role, label in (
                ("heldOut", "tuned", "held-out rows"),
                ("general", "general", "general text"),
            )
        )
        lines = [line for line in drawn if line.points]
        if not lines:
            return None
        best = self.facts.best_step
        caption = (
            "Nats per target token by step of the recovery: held-out rows, and general text. Step "
            "0 is the pruned model"
        )
        caption += f"; the weights of step {best:,} are kept." if best else "."
        return Chart(drawing=loss_chart(lines, best=best), caption=caption)

    def _points(self, kind: str) -> list[Point]:
        return [Point(line.step, line.loss) for line in self.job.recovery if line.kind == kind]


def _row(rung: LadderRung) -> tuple[str, ...]:
    losses = {suite: number(loss) for suite, loss in rung.losses.items()}
    return (
        _NAMES.get(rung.model, rung.model),
        f"{rung.parameters:,}",
        size(rung.bytes),
        losses.get("heldOut", ""),
        losses.get("general", ""),
        number(rung.kl),
    )


def _cut(facts: DistillFacts) -> str:
    if facts.shape is None:
        return ""
    before, after = facts.shape.before, facts.shape.after
    axes = (
        ("layers", before.layers, after.layers),
        ("channels", before.channels, after.channels),
        ("heads of keys", before.kv_heads, after.kv_heads),
        ("tokens", before.tokens, after.tokens),
    )
    told = [f"{after:,} of {before:,} {axis}" for axis, before, after in axes if after != before]
    return f"{', '.join(told)} stay.".capitalize() if told else ""


def _gap(facts: DistillFacts) -> str:
    kept = facts.recovery.get("heldOut")
    gap = facts.gap_recovered.get("heldOut")
    told = []
    if gap is not None:
        told.append(f"{percent(gap)} of the held-out loss that pruning added is gone again")
    if kept is not None:
        told.append(f"recovery {percent(kept)}, of which {percent(facts.min_recovery)} was asked")
    return "; ".join(told) + "."
