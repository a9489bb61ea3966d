"""Judge an evaluation by `spec.evaluation.gates`: pure, and the same for every suite and metric.

A gate that names a number which this job does not measure is refused before anything is measured,
because a gate that cannot fail protects nobody. The point value is judged, not its interval: a
manifest's bound means what it says on however many rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunesmith_api.finetunejob.evaluation import Gate
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.errors import BadInputError


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Whether one gate's bound holds, and what was measured, in words."""

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
    # `auto` chooses the metric of the answers by the data, so no rule of the manifest can tell.
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


def judge(gates: Sequence[Gate], results: Sequence[EvaluationResult]) -> list[GateVerdict]:
    """A verdict for each gate, in the order of the gates.

    Raises:
        KeyError: a gate is on a number that was not measured; `refuse_unmeasured` comes first.
        ValueError: a change is asked for, and there is no base value to change from.
    """
    measured = {(result.suite, result.metric): result for result in results}
    return [_judge_gate(gate, measured[gate.suite, gate.metric]) for gate in gates]


def _judge_gate(gate: Gate, result: EvaluationResult) -> GateVerdict:
    name = f"{result.suite} {result.metric}"
    # The API's rules let exactly one of the four be given.
    kind = next(kind for kind in _BOUNDS if getattr(gate, kind.field) is not None)
    bound: float = getattr(gate, kind.field)
    if not kind.is_delta:
        holds = kind.holds(result.value, bound)
        verb = "keeps" if holds else "breaks"
        statement = f"{name} is {result.value:.4g} and {verb} the bound of {kind.words} {bound:g}"
        return GateVerdict(holds, statement)
    if result.base is None:
        raise ValueError(f"{name} was measured without a base value")
    change = result.value - result.base
    holds = kind.holds(change, bound)
    verb = "keeps" if holds else "breaks"
    return GateVerdict(
        holds,
        f"{name} went from {result.base:.4g} (base) to {result.value:.4g}, a change of "
        f"{change:+.4g}, and {verb} the bound of {kind.words} {bound:+g}",
    )
