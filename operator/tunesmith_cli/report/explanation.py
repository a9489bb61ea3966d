"""The section about explanations: what moved the answers, and how far methods are believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tunesmith_cli.formats import counted, number, percent
from tunesmith_cli.report.components import Table, table_of
from tunesmith_cli.report.explanation_records import (
    ExplainedRowRecord,
    SurrogateModel,
    SurrogateWord,
    UnitRecord,
)
from tunesmith_cli.report.job_data import JobData

_NAMES: Final[Mapping[str, str]] = {
    "shap": "SHAP",
    "lime": "LIME",
    "integratedGradients": "integrated gradients",
    "occlusion": "occlusion",
    "attentionRollout": "attention rollout (no cause)",
}
_SURROGATES: Final[Mapping[str, str]] = {
    "sparseLinear": "sparse linear model",
    "tree": "decision tree",
}
_FIDELITIES: Final[Mapping[str, str]] = {"r2": "R²"}
# Of a cell that is read at one look; the artifact has 20.
_MOST_SURROGATE_WORDS: Final = 8
# The page stays small enough for mail; the artifact has all.
_MOST_ROWS: Final = 20
_MOST_WORDS: Final = 20


@dataclass(frozen=True)
class ExplanationSection:
    """What the stage `explain` has found; words of rows only where the job asks for them."""

    job: JobData

    @property
    def about(self) -> str:
        """In sentences, what the numbers are."""
        facts = self.job.explain
        left_out = sum(facts.skipped.values())
        skipped = f" {counted(left_out, 'row')} could not be explained." if left_out else ""
        return (
            f"{counted(facts.rows, 'held-out row')}, with {facts.passes:,} forward passes. A score "
            "is how many nats per answer token a part of the prompt adds. Deletion takes the parts "
            "with the highest scores out first, insertion puts them in first; a method that does "
            f"no better than random orders is not to be believed.{skipped}"
        )

    @cached_property
    def methods(self) -> Table | None:
        """Faithfulness and stability by method."""
        rows = [
            (
                _NAMES.get(told.method, told.method),
                number(told.deletion_area),
                number(told.deletion_random),
                percent(told.deletion_beats),
                number(told.insertion_area),
                number(told.insertion_random),
                percent(told.insertion_beats),
                "" if told.stability is None else number(told.stability),
            )
            for told in self.job.explain.methods
        ]
        head = (
            "method", "deletion", "random", "beats", "insertion", "random", "beats", "stability",
        )  # fmt: skip
        return table_of("Faithfulness", head, rows, numeric=range(1, 8))

    @cached_property
    def places(self) -> Table | None:
        """Which places of a prompt move the model over many rows."""
        view = self.job.explain.view
        rows = [
            (told.place, str(told.rows), number(told.effect), _error(told.standard_error))
            for told in view.places
        ]
        head = ("place", "rows", "nats per token", "standard error")
        return table_of(f"Over {counted(view.rows, 'row')}", head, rows, numeric=(1, 2, 3))

    @cached_property
    def words(self) -> Table | None:
        """Which words do, where the job asks for words."""
        found = self.job.explanations
        if found is None or not self.job.explain.show_text:
            return None
        rows = [
            (told.word, str(told.rows), number(told.effect), _error(told.standard_error))
            for told in found.view.words[:_MOST_WORDS]
        ]
        head = ("word", "rows", "nats per token", "standard error")
        return table_of("Words", head, rows, numeric=(1, 2, 3))

    @cached_property
    def about_surrogates(self) -> str:
        """What simpler models of the model are, or why there are none; empty where none were asked.

        In the page itself: captions are for those who do not see tables.
        """
        found = self.job.explain.surrogate
        if found is None:
            return ""
        if not found.models:
            return f"No simpler model of the model was fitted: {found.reason}."
        return (
            "Simpler models over words, fitted to what the model decides of "
            f"{counted(found.fitted_rows, 'row')} and judged on {found.judged_rows:,} others. One "
            "that is no better than a constant is nothing to read. Occlusion's ranks correlate the "
            "weights of its words with what leaving them out does to the model."
        )

    @cached_property
    def surrogates(self) -> Table | None:
        """Simpler models of the model, and how far they are like it."""
        found = self.job.explain.surrogate
        if found is None:
            return None
        words = {one.model: _most_weight(one.words) for one in self._shown_surrogates}
        rows = [
            (
                _SURROGATES.get(one.model, one.model),
                number(one.fidelity),
                f"{number(one.interval[0])} – {number(one.interval[1])}",
                number(one.constant),
                f"{one.num_words:,}",
                "–" if one.occlusion_rank is None else number(one.occlusion_rank),
                *([words.get(one.model, "")] if words else []),
            )
            for one in found.models
        ]
        head = (
            "surrogate", _FIDELITIES.get(found.metric, found.metric), "interval", "a constant",
            "words", "occlusion's ranks", *(["most weight"] if words else []),
        )  # fmt: skip
        return table_of("Simpler models of the model", head, rows, numeric=(1, 3, 4, 5))

    @cached_property
    def rules(self) -> str:
        """What the decision tree asks, where the job asks for words."""
        return "\n".join(one.rules.rstrip() for one in self._shown_surrogates if one.rules)

    @property
    def _shown_surrogates(self) -> Sequence[SurrogateModel]:
        # Words are in the artifact of the stage alone, as those of rows are.
        told = self.job.explanations
        whole = told.surrogate if told and self.job.explain.show_text else None
        return whole.models if whole else ()

    @cached_property
    def rows(self) -> Sequence[Table]:
        """A table for each explained row, the failures first."""
        found = self.job.explanations
        tables = (self._row(row) for row in (found.rows[:_MOST_ROWS] if found else ()))
        return [table for table in tables if table is not None]

    def _row(self, row: ExplainedRowRecord) -> Table | None:
        lines = [
            (
                self._unit(unit),
                *(f"{told.scores[at]:+.3f}" for told in row.methods if at < len(told.scores)),
            )
            for at, unit in enumerate(row.units)
        ]
        head = (
            row.unit_kind.removesuffix("s"),
            *(_NAMES.get(m.method, m.method) for m in row.methods),
        )
        caption = f"Row {row.row}, {row.source}: loss {number(row.loss)}"
        whole = [line for line in lines if len(line) == len(head)]
        return table_of(caption, head, whole, numeric=range(1, len(head)))

    def _unit(self, unit: UnitRecord) -> str:
        if self.job.explain.show_text:
            return unit.text
        return f"{unit.role}, turn {unit.turn}, {unit.place}"


def _most_weight(words: Sequence[SurrogateWord]) -> str:
    return ", ".join(f"{word.word} {word.weight:.2g}" for word in words[:_MOST_SURROGATE_WORDS])


def _error(value: float | None) -> str:
    return "" if value is None else number(value)
