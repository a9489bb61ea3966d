"""What breaks the rules of `spec.evaluation.fairness`, and the nearest that keeps them."""

from typing import Any

from secret_breaches import TASK
from training_breaches import TRAIN

SOURCE = {"uri": "file://crows.csv"}
CROWS = {"name": "crows", "kind": "crowsPairs", "source": SOURCE}
SWAPS = {"name": "swaps", "kind": "counterfactual"}
HIRED = {"name": "hired", "kind": "classification", "positive": "yes"}
YOUNG = {"name": "young", "terms": ["girl", "boy"]}
OLD = {"name": "old", "terms": ["woman", "man"]}
CLASSIFIER = {"model": {"uri": "file://toxicity"}, "label": "toxic"}
MEAN = {"name": "mean", "kind": "toxicity"}


def _suites(*suites: dict[str, Any], **evaluation: Any) -> dict[str, Any]:
    return {"evaluation": {"fairness": {"suites": list(suites)}, **evaluation}}


FAIRNESS_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "published-fairness-set-has-source": [
        (
            _suites({"name": "crows", "kind": "crowsPairs"}),
            "spec.evaluation.fairness.suites[0].source",
            _suites(CROWS),
        ),
        (
            _suites(SWAPS | {"source": SOURCE}),
            "spec.evaluation.fairness.suites[0].source",
            _suites(SWAPS),
        ),
    ],
    "classification-has-positive": [
        (
            _suites({"name": "hired", "kind": "classification"}),
            "spec.evaluation.fairness.suites[0].positive",
            _suites(HIRED),
        ),
        (
            _suites(SWAPS | {"positive": "yes"}),
            "spec.evaluation.fairness.suites[0].positive",
            _suites(SWAPS),
        ),
    ],
    "toxicity-has-classifier": [
        (
            _suites(MEAN),
            "spec.evaluation.fairness.suites[0].classifier",
            _suites(MEAN | {"classifier": CLASSIFIER}),
        ),
        (
            _suites(SWAPS | {"classifier": CLASSIFIER}),
            "spec.evaluation.fairness.suites[0].classifier",
            _suites(SWAPS),
        ),
    ],
    "classifier-has-no-template": [
        (
            _suites(
                MEAN
                | {
                    "classifier": {
                        "model": {"uri": "file://toxicity", "chatTemplate": "{{ messages }}"},
                        "label": "toxic",
                    }
                }
            ),
            "spec.evaluation.fairness.suites[0].classifier.model.chatTemplate",
            _suites(MEAN | {"classifier": CLASSIFIER}),
        )
    ],
    "groups-for-held-out-rows": [
        (
            _suites(SWAPS | {"groups": [YOUNG]}),
            "spec.evaluation.fairness.suites[0].groups",
            _suites(SWAPS | {"groups": [YOUNG, OLD]}),
        ),
        (
            _suites(CROWS | {"groups": [YOUNG, OLD]}),
            "spec.evaluation.fairness.suites[0].groups",
            _suites(CROWS | {"groups": []}),
        ),
    ],
    "groups-have-as-many-terms": [
        (
            _suites(SWAPS | {"groups": [YOUNG, OLD | {"terms": ["woman"]}]}),
            "spec.evaluation.fairness.suites[0].groups",
            _suites(SWAPS | {"groups": [YOUNG, OLD]}),
        )
    ],
    "fairness-suite-name-is-free": [
        (
            _suites(SWAPS | {"name": "general"}),
            "spec.evaluation.fairness.suites[0].name",
            _suites(SWAPS),
        )
    ],
    "fairness-suite-names-differ": [
        (
            _suites(SWAPS, HIRED | {"name": "swaps"}),
            "spec.evaluation.fairness.suites",
            _suites(SWAPS, HIRED),
        )
    ],
    "fairness-names-are-no-suites": [
        (
            _suites(SWAPS, suites=[TASK | {"name": "swaps"}]),
            "spec.evaluation.fairness.suites",
            _suites(SWAPS, suites=[TASK]),
        )
    ],
    "gate-metric-is-of-the-fairness-kind": [
        (
            _suites(SWAPS, gates=[{"suite": "swaps", "metric": "refusalGap", "max": 0.1}]),
            "spec.evaluation.gates",
            _suites(SWAPS, gates=[{"suite": "swaps", "metric": "gap", "max": 0.1}]),
        )
    ],
    "counterfactual-groups-correspond": [
        (
            {"dataset": {"train": TRAIN, "augmentation": {"counterfactual": {"groups": [YOUNG]}}}},
            "spec.dataset.augmentation.counterfactual.groups",
            {"dataset": {"train": TRAIN, "augmentation": {"counterfactual": {}}}},
        )
    ],
}
