"""What a job measures beside losses and answers: bias, attacked prompts, and people's highlights.

`evaluate` measures the base and the tuned model, `compress` the tuned and the compressed one, which
has to keep the gates that are about these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import Bootstrap, Gate
from tunesmith_api.finetunejob.explanation_objective import HIGHLIGHTS
from tunesmith_api.finetunejob.robustness import ROBUSTNESS
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.evaluate.highlights import (
    HighlightsTest,
    highlights_findings,
    load_highlights,
    warning_of_no_gain,
)
from tunesmith_trainer.evaluate.suites import Findings, Say
from tunesmith_trainer.fairness.measures import Measure
from tunesmith_trainer.fairness.suites import (
    FairnessTest,
    fairness_findings,
    load_tests,
    measure_tests,
    metrics_of_tests,
    warnings_of_tests,
)
from tunesmith_trainer.robustness.suite import (
    RobustnessTest,
    load_robustness,
    robustness_findings,
)


@dataclass(frozen=True, slots=True)
class TrustMeasures:
    """Of one model: the measures of each suite of fairness, and those of prompts."""

    fairness: Mapping[str, Sequence[Measure]]
    robustness: Sequence[Measure]
    highlights: Sequence[Measure] = ()


@dataclass(frozen=True, slots=True)
class TrustTests:
    """What the job asks for."""

    fairness: Sequence[FairnessTest] = ()
    robustness: RobustnessTest | None = None
    highlights: HighlightsTest | None = None
    warnings_of_rows: tuple[str, ...] = ()

    @classmethod
    def load(
        cls, request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
    ) -> "TrustTests":
        """No weights are loaded.

        Raises:
            StageError: a file cannot be read, or the held-out rows are not of use.
        """
        robustness = load_robustness(request, prepared, tokenizer)
        highlights, told = load_highlights(request, prepared, tokenizer)
        attacked = robustness.warnings if robustness else ()
        return cls(
            load_tests(request, prepared, tokenizer), robustness, highlights, (*attacked, *told)
        )

    @property
    def are_asked_for(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.fairness) or bool(self.robustness or self.highlights)

    def metrics(self) -> list[tuple[str, str]]:
        """Suite and metric of what a gate can name."""
        attacked = self.robustness.metrics() if self.robustness else []
        highlighted = self.highlights.metrics() if self.highlights else []
        return metrics_of_tests(self.fairness) + attacked + highlighted

    def measure(self, model: PreTrainedModel, *, say: Say) -> TrustMeasures:
        """All of it, of one model."""
        return TrustMeasures(
            measure_tests(self.fairness, model, say=say),
            self.robustness.measure(model, say) if self.robustness else [],
            self.highlights.measure(model, say) if self.highlights else [],
        )

    def findings(
        self,
        measured: TrustMeasures,
        *,
        base: TrustMeasures,
        split: str,
        settings: Bootstrap,
        general_loss: tuple[float, float],
    ) -> Findings:
        """Numbers of both, and a record of each that was asked for, by its field."""
        results, records = [], dict[str, JsonValue]()
        if self.fairness:
            found = fairness_findings(
                self.fairness,
                measured.fairness,
                base=base.fairness,
                split=split,
                settings=settings,
                general_loss=general_loss,
            )
            results += found.results
            records["fairness"] = found.record
        if self.robustness:
            found = robustness_findings(
                measured.robustness,
                base=base.robustness,
                metric=self.robustness.metric,
                split=split,
                settings=settings,
            )
            results += found.results
            records[ROBUSTNESS] = found.record
        if self.highlights:
            found = highlights_findings(
                measured.highlights, base=base.highlights, split=split, settings=settings
            )
            results += found.results
            records[HIGHLIGHTS] = found.record
        return Findings(results, records)

    def gates(self, gates: Sequence[Gate]) -> list[Gate]:
        """Those that are about what is measured here: the model that ships is held to them, too."""
        suites = {suite for suite, _ in self.metrics()}
        return [gate for gate in gates if gate.suite in suites]

    def warnings(self, measured: TrustMeasures, found: Findings) -> list[str]:
        """What to know before the numbers are believed, and which remedy they show no gain of."""
        record = found.record.get(HIGHLIGHTS)
        is_held = self.highlights is not None and self.highlights.is_trained
        unmoved = warning_of_no_gain(record) if is_held and isinstance(record, dict) else []
        biased = warnings_of_tests(self.fairness, measured.fairness)
        return [*biased, *self.warnings_of_rows, *unmoved]
