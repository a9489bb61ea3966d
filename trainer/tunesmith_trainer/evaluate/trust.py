"""What a job measures beside losses and answers: bias, and prompts under attack.

`evaluate` measures the base and the tuned model, `compress` the tuned and the compressed one, which
has to keep the gates that are about these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import Bootstrap, Gate
from tunesmith_api.finetunejob.robustness import ROBUSTNESS
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared
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
    """Of one model: the measures of each suite of fairness, and those of attacked prompts."""

    fairness: Mapping[str, Sequence[Measure]]
    robustness: Sequence[Measure]


@dataclass(frozen=True, slots=True)
class TrustTests:
    """What the job asks for."""

    fairness: Sequence[FairnessTest] = ()
    robustness: RobustnessTest | None = None

    @classmethod
    def load(
        cls, request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
    ) -> "TrustTests":
        """No weights are loaded.

        Raises:
            StageError: a file cannot be read, or the held-out rows are not of use.
        """
        return cls(
            load_tests(request, prepared, tokenizer), load_robustness(request, prepared, tokenizer)
        )

    @property
    def are_asked_for(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.fairness) or self.robustness is not None

    def metrics(self) -> list[tuple[str, str]]:
        """Suite and metric of what a gate can name."""
        attacked = self.robustness.metrics() if self.robustness else []
        return metrics_of_tests(self.fairness) + attacked

    def measure(self, model: PreTrainedModel, *, say: Say) -> TrustMeasures:
        """All of it, of one model."""
        return TrustMeasures(
            measure_tests(self.fairness, model, say=say),
            self.robustness.measure(model, say) if self.robustness else [],
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
        return Findings(results, records)

    def gates(self, gates: Sequence[Gate]) -> list[Gate]:
        """Those that are about what is measured here: the model that ships is held to them, too."""
        suites = {suite for suite, _ in self.metrics()}
        return [gate for gate in gates if gate.suite in suites]

    def warnings(self, measured: TrustMeasures) -> list[str]:
        """What to know before the numbers are believed."""
        attacked = self.robustness.warnings if self.robustness else ()
        return [*warnings_of_tests(self.fairness, measured.fairness), *attacked]
