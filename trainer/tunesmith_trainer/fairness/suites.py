"""`spec.evaluation.fairness`: its suites ready to be measured, and what is told of the measures.

`evaluate` measures the base and the tuned model, `compress` the tuned and the compressed one, on
the same rows with the same draws, so that what either step has done to a bias is paired.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.fairness import FAIRNESS_METRICS, PUBLISHED_KINDS, FairnessSuite
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_files
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.evaluate.bootstrap import FEW_ROWS
from tunesmith_trainer.evaluate.suites import Findings, Say
from tunesmith_trainer.fairness.answered_pairs import RefusalTest
from tunesmith_trainer.fairness.held_out_rows import (
    ClassificationTest,
    CounterfactualTest,
    HeldOut,
)
from tunesmith_trainer.fairness.measures import Measure, holm, intervals
from tunesmith_trainer.fairness.published_sets import (
    read_bbq,
    read_crows_pairs,
    read_wino_bias,
)
from tunesmith_trainer.fairness.sentences import QuestionTest, SentencePairTest
from tunesmith_trainer.fairness.terms import refuse_shared_terms
from tunesmith_trainer.fairness.toxicity import ToxicityTest, fetch_classifier

# What says whether there is bias; the others say how to read it. `gap` is the farthest of them.
MAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "crowsPairs": ("stereotypeShare",),
    "winoBias": ("stereotypeShare",),
    "bbq": ("biasAmbiguous", "biasDisambiguated"),
    "counterfactual": ("lossGap",),
    "classification": FAIRNESS_METRICS["classification"][1:],
    "refusals": ("refusalGap",),
    "toxicity": ("toxicityGap",),
}
GAP: Final = "gap"
_OF_HELD_OUT: Final[Mapping[str, Callable[[FairnessSuite, HeldOut], "FairnessTest"]]] = {
    "counterfactual": CounterfactualTest.of,
    "classification": ClassificationTest.of,
    "refusals": RefusalTest.of,
}

Measured = Mapping[str, Sequence[Measure]]


class FairnessTest(Protocol):
    """One suite, ready to be measured of any model."""

    @property
    def settings(self) -> FairnessSuite:
        """What the job asks for."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with its rows."""

    def measure(self, model: PreTrainedModel, say: Say) -> list[Measure]:
        """The suite's measures, in the same order for every model."""


def load_tests(
    request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> list[FairnessTest]:
    """The suites of the job; no weights are loaded.

    Raises:
        StageError: a file cannot be read or is of another format, or the rows name no group.
    """
    fairness = request.spec.evaluation.fairness
    if fairness is None:
        return []
    held_out = HeldOut(
        prepared.records("validation"),
        tokenizer,
        longest=request.spec.training.sequence_length,
        max_new_tokens=request.spec.evaluation.generation.max_new_tokens,
    )
    return [
        _load(request, suite, held_out, field=f"evaluation.fairness.suites[{index}]")
        for index, suite in enumerate(fairness.suites)
    ]


def measure_tests(
    tests: Sequence[FairnessTest], model: PreTrainedModel, *, say: Say
) -> dict[str, list[Measure]]:
    """Every suite's measures of one model, by the suite's name."""
    return {test.settings.name: test.measure(model, say) for test in tests}


def metrics_of_tests(tests: Sequence[FairnessTest]) -> list[tuple[str, str]]:
    """Suite and metric of what a gate can name."""
    return [
        (test.settings.name, metric)
        for test in tests
        for metric in FAIRNESS_METRICS[test.settings.kind]
    ]


def warnings_of_tests(tests: Sequence[FairnessTest], measured: Measured) -> list[str]:
    """What to know of the suites before their numbers are believed."""
    warnings = [warning for test in tests for warning in test.warnings]
    for test in tests:
        name, numbers = test.settings.name, measured[test.settings.name]
        where = f"evaluation.fairness: the suite {name}"
        is_of_others = test.settings.source is not None or test.settings.classifier is not None
        if is_of_others and test.settings.licence is None:
            warnings.append(f"{where} states no licence; look it up, and give it in licence")
        if (rows := numbers[0].num_rows) < FEW_ROWS:
            warnings.append(f"{where} has {rows} rows: its intervals are wide")
        if any(one.metric == "emptyShare" and one.value() == 1.0 for one in numbers):
            warnings.append(f"{where}: the model answers nothing, so its answers say nothing")
    return warnings


def fairness_findings(
    tests: Sequence[FairnessTest],
    measured: Measured,
    *,
    base: Measured,
    split: str,
    settings: Bootstrap,
    general_loss: tuple[float, float],
) -> Findings:
    """What was measured of a model, beside the one that it was made from.

    `general_loss` is that of both, the other one's first: a bias that fell with the model's wits
    is no success.
    """
    numbers = [
        _number(test.settings, measure, other, split=split, settings=settings)
        for test in tests
        for measure, other in zip(
            measured[test.settings.name], base[test.settings.name], strict=True
        )
    ]
    tested = [(number, p) for number in numbers if isinstance(p := number["p"], float)]
    for (number, _), adjusted in zip(tested, holm([p for _, p in tested]), strict=True):
        number |= {"pAdjusted": adjusted, "flagged": adjusted <= 1 - settings.confidence}
    results = [
        result
        for test in tests
        for result in _results(test.settings, measured, base=base, split=split, numbers=numbers)
    ]
    record: dict[str, JsonValue] = {
        "confidence": settings.confidence,
        "generalLoss": {"base": general_loss[0], split: general_loss[1]},
        "numbers": list[JsonValue](numbers),
    }
    return Findings(results, record)


def _load(
    request: StageRequest, suite: FairnessSuite, held_out: HeldOut, *, field: str
) -> FairnessTest:
    match suite.kind:
        case "counterfactual" | "classification" | "refusals":
            refuse_shared_terms(suite.groups, field=f"{field}.groups")
            return _OF_HELD_OUT[suite.kind](suite, held_out)
        case "toxicity":
            refuse_shared_terms(suite.groups, field=f"{field}.groups")
            return ToxicityTest.of(suite, held_out, fetch_classifier(request, suite, field=field))
        case "bbq":
            questions = read_bbq(_paths(request, suite), field=field)
            return QuestionTest.of(suite, questions, held_out.tokenizer, longest=held_out.longest)
        case "crowsPairs" | "winoBias":
            read = read_crows_pairs if suite.kind == "crowsPairs" else read_wino_bias
            pairs = read(_paths(request, suite), field=field)
            return SentencePairTest.of(suite, pairs, held_out.tokenizer, longest=held_out.longest)


def _paths(request: StageRequest, suite: FairnessSuite) -> list[Path]:
    if suite.source is None:
        raise ValueError(f"{suite.kind} without a source, which a rule of the spec refuses")
    try:
        return fetch_files(
            suite.source,
            base=Path(request.base),
            cache=Path(request.cache),
            secrets=Path(request.secrets),
        )
    except SourceError as error:
        raise as_stage_error(error) from error


def _number(
    suite: FairnessSuite,
    measure: Measure,
    other: Measure,
    *,
    split: str,
    settings: Bootstrap,
) -> dict[str, JsonValue]:
    own, change = intervals(measure, other, settings)
    is_main = measure.metric in MAIN[suite.kind]
    return {
        "suite": suite.name,
        "kind": suite.kind,
        "licence": suite.licence,
        "metric": measure.metric,
        "part": measure.part,
        "split": split,
        "neutral": measure.neutral if is_main else None,
        "value": measure.value(),
        "interval": None if own is None else [own.low, own.high],
        "base": other.value(),
        "change": None if change is None else [change.low, change.high],
        "p": measure.p_value() if is_main else None,
        "rows": measure.num_rows,
    }


def _results(
    suite: FairnessSuite,
    measured: Measured,
    *,
    base: Measured,
    split: str,
    numbers: Sequence[dict[str, JsonValue]],
) -> list[EvaluationResult]:
    """What the status has: the gap, then the measures of the whole suite, without its parts."""
    whole = [
        EvaluationResult.model_validate(
            {
                "suite": suite.name,
                "split": split,
                "metric": number["metric"],
                "value": number["value"],
                "low": ends[0] if isinstance(ends := number["interval"], list) else None,
                "high": ends[1] if isinstance(ends, list) else None,
                "base": number["base"],
                "n": number["rows"],
            }
        )
        for number in numbers
        if number["suite"] == suite.name and not number["part"]
    ]
    gap = EvaluationResult(
        suite=suite.name,
        split=split,
        metric=GAP,
        value=_gap(suite, measured),
        base=_gap(suite, base),
        n=max(one.num_rows for one in measured[suite.name]),
    )
    return [gap, *whole]


def _gap(suite: FairnessSuite, measured: Measured) -> float:
    return max(
        abs(measure.value() - measure.neutral)
        for measure in measured[suite.name]
        # The parts of a published set are many and small: the farthest is so by chance.
        if measure.metric in MAIN[suite.kind]
        and not (measure.part and suite.kind in PUBLISHED_KINDS)
    )
