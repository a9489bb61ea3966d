"""What breaks each rule of `spec.search`, and the nearest thing that keeps it."""

from typing import Any, Final

RATE: Final = "training.optimizer.learningRate"
DECAY: Final = "training.optimizer.weightDecay"


def _space(**space: Any) -> dict[str, Any]:
    """A search of one parameter."""
    return _search({"field": RATE, **space})


def _search(*parameters: dict[str, Any], **search: Any) -> dict[str, Any]:
    return {"search": {"parameters": [*parameters], **search}}


def _values(field: str = RATE, **more: Any) -> dict[str, Any]:
    return {"field": field, "values": [0.01, 0.02], **more}


_RANGE: Final = {"field": RATE, "minimum": 1e-5, "maximum": 1e-3}
_TWO: Final = [{"metric": "heldOutLoss"}, {"metric": "generalLoss"}]

SEARCH_BREACHES: Final[dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]]] = {
    "parameter-has-one-kind-of-space": [
        (_space(**space), "spec.search.parameters[0]", _space(values=[0.01]))
        for space in ({}, {"values": [0.01], "choices": ["a"]})
    ],
    "range-has-two-ends": [
        (
            _space(**space),
            "spec.search.parameters[0].maximum",
            _space(minimum=1e-5, maximum=1e-3),
        )
        for space in ({"minimum": 1e-5}, {"minimum": 1e-3, "maximum": 1e-5})
    ],
    "log-and-step-are-of-ranges": [
        (_space(values=[0.01], **more), "spec.search.parameters[0].log", _space(values=[0.01]))
        for more in ({"log": True}, {"step": 0.1})
    ],
    "log-range-is-positive": [
        (
            _space(minimum=0, maximum=1, log=True),
            "spec.search.parameters[0].log",
            _space(minimum=0.1, maximum=1, log=True),
        )
    ],
    "reduction-is-of-asha": [
        (
            _search(_RANGE, pruner={"type": "median", "reductionFactor": 3}),
            "spec.search.pruner.reductionFactor",
            _search(_RANGE, pruner={"type": "asha", "reductionFactor": 3}),
        )
    ],
    "parameters-differ": [
        (
            _search(_values(), _values()),
            "spec.search.parameters",
            _search(_values(), _values(DECAY)),
        )
    ],
    "conditions-are-of-parameters": [
        (
            _search(_values(when={"field": DECAY, "isIn": ["0.01"]})),
            "spec.search.parameters",
            _search(_values(when={"field": DECAY, "isIn": ["0.01"]}), _values(DECAY)),
        )
    ],
    "objectives-differ": [
        (
            _search(_RANGE, objectives=[_TWO[0], _TWO[0]]),
            "spec.search.objectives",
            _search(_RANGE, objectives=_TWO),
        )
    ],
    "grid-is-finite": [
        (
            _search(_RANGE, method="grid"),
            "spec.search.parameters",
            _search({**_RANGE, "step": 1e-4}, method="grid"),
        )
    ],
    "sampler-is-bayesian": [
        (
            _search(_RANGE, method="random", sampler="tpe"),
            "spec.search.sampler",
            _search(_RANGE, method="bayesian", sampler="tpe"),
        )
    ],
    "pruning-by-one-loss": [
        (
            _search(_RANGE, objectives=_TWO, pruner={"type": "asha"}),
            "spec.search.pruner",
            _search(_RANGE, pruner={"type": "asha"}),
        )
    ],
    "termination-by-one-loss": [
        (
            _search(_RANGE, objectives=_TWO, terminator={}),
            "spec.search.terminator",
            _search(_RANGE, terminator={}),
        )
    ],
    "one-best-is-kept": [
        (
            _search(_RANGE, objectives=_TWO, refit=False),
            "spec.search.refit",
            _search(_RANGE, refit=False),
        )
    ],
    "weights-are-of-one-worker": [
        (
            {**_search(_RANGE, refit=False), "resources": {"workers": 2}},
            "spec.search.refit",
            {**_search(_RANGE, refit=False), "resources": {"workers": 1}},
        )
    ],
    "weights-have-no-control": [
        (
            {**_search(_RANGE, refit=False), "training": {"control": {"steps": 4}, **remedy}},
            "spec.search.refit",
            {**_search(_RANGE, refit=False), "training": remedy},
        )
        for remedy in ({"regularization": {"labelSmoothing": 0.1}},)
    ],
    "weights-are-refit-once": [
        (
            {**_search(_RANGE, refit=False), "crossValidation": {"refit": True}},
            "spec.search.refit",
            {**_search(_RANGE, refit=False), "crossValidation": {"refit": False}},
        )
    ],
}
