"""What breaks the rules of `spec.evaluation.robustness`, and the nearest that keeps them."""

from typing import Any

from training_breaches import TRAIN


def _attacked(*gates: dict[str, Any], generation: str = "auto", **robustness: Any) -> Any:
    return {
        "evaluation": {
            "robustness": robustness,
            "gates": list(gates),
            "generation": {"metric": generation},
        }
    }


def _augmented(**adversarial: Any) -> Any:
    return {"dataset": {"train": TRAIN, "augmentation": {"adversarial": adversarial}}}


def _gate(metric: str) -> dict[str, Any]:
    return {"suite": "robustness", "metric": metric, "max": 0.1}


ROBUSTNESS_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "attacks-differ": [
        (
            _attacked(attacks=["typos", "typos"]),
            "spec.evaluation.robustness.attacks",
            _attacked(attacks=["typos", "casing"]),
        )
    ],
    "prompt-attacks-differ": [
        (
            _augmented(attacks=["casing", "casing"]),
            "spec.dataset.augmentation.adversarial.attacks",
            _augmented(attacks=["casing"]),
        )
    ],
    "gate-metric-is-of-an-attack": [
        (
            _attacked(_gate("synonyms.lossRise")),
            "spec.evaluation.gates",
            _attacked(_gate("typos.lossRise")),
        ),
        (
            _attacked(_gate("typos.obeyedShare")),
            "spec.evaluation.gates",
            _attacked(_gate("injectionAfter.obeyedShare")),
        ),
        (
            _attacked(_gate("typos.scoreDrop"), generation="none"),
            "spec.evaluation.gates",
            _attacked(_gate("typos.scoreDrop")),
        ),
    ],
}
