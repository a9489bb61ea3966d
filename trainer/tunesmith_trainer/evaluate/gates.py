"""Judge an evaluation by `spec.evaluation.gates`: pure, and the same for every suite and metric.

A gate that names a number which this job does not measure is refused before anything is measured,
because a gate that cannot fail protects nobody.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunesmith_api.finetunejob.evaluation import Gate
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.errors import BadInputError


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate, what was measured, and whether the bound holds."""

    gate: Gate
    value: float
    base: float | None
    holds: bool
    statement: str


@dataclass(frozen=True, slots=True)
class _Bound:
    """How one kind of bound is read: what is compared, how, and in which words."""

    field: str
    is_delta: bool
    holds: Callable[[float, float], bool]
    words: str


_BOUNDS = (
    _Bound("min", is_delta=False, holds=lambda value, bound: value >= bound, words="at least"),
    _Bound("max", is_delta=False, holds=lambda value, bound: value <= bound, words="at most"),
    _Bound("min_delta", is_delta=True, holds=lambda value, bound: value >= bound, words="at least"),
    _Bound("max_delta", is_delta=True, holds=lambda value, bound: value <= bound, words="at most"),
)


def refuse_unmeasured(gates: Iterable[Gate], *, measured: Iterable[tuple[str, str]]) -> None:
    """Return if each gate's suite and metric are among those that will be measured.

    Raises:
        BadInputError: a gate could never be judged.
    """
    known = sorted(set(measured))
    for gate in gates:
        if (gate.suite, gate.metric) not in known:
            names = ", ".join(f"{suite} {metric}" for suite, metric in known)
            raise BadInputError(
                Reason.INVALID_SPEC,
                f"spec.evaluation.gates: {gate.suite} {gate.metric} is not measured for this "
                f"data. Measured are {names}; change the gate, or set "
                "spec.evaluation.generation.metric.",
            )


def judge(gates: Sequence[Gate], results: Sequence[EvaluationResult]) -> list[Verdict]:
    """A verdict for each gate, in the order of the gates."""
    found = {(each.suite, each.metric): each for each in results}
    return [_verdict(gate, found[gate.suite, gate.metric]) for gate in gates]


def _verdict(gate: Gate, result: EvaluationResult) -> Verdict:
    kind = next(each for each in _BOUNDS if getattr(gate, each.field) is not None)
    bound: float = getattr(gate, kind.field)
    judged = result.value - _base_of(result) if kind.is_delta else result.value
    holds = kind.holds(judged, bound)
    return Verdict(
        gate=gate,
        value=result.value,
        base=result.base,
        holds=holds,
        statement=_statement(result, kind, judged=judged, bound=bound, holds=holds),
    )


def _base_of(result: EvaluationResult) -> float:
    if result.base is None:
        raise ValueError(f"{result.suite} {result.metric} was measured without a base value")
    return result.base


def _statement(
    result: EvaluationResult, kind: _Bound, *, judged: float, bound: float, holds: bool
) -> str:
    name = f"{result.suite} {result.metric}"
    verb = "keeps" if holds else "breaks"
    if not kind.is_delta:
        return f"{name} is {judged:.4g} and {verb} the bound of {kind.words} {bound:g}"
    return (
        f"{name} went from {_base_of(result):.4g} (base) to {result.value:.4g}, a change of "
        f"{judged:+.4g}, and {verb} the bound of {kind.words} {bound:+g}"
    )
