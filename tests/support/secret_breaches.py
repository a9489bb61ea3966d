"""What breaks the rule that secrets are for remote sources, at every place where it holds."""

from typing import Any

from training_breaches import TRAIN

MODEL = {"uri": "hf://a/b"}
SECRET = {"secretRef": {"name": "hub"}}
TASK = {"name": "arc", "uri": "s3://tasks/arc", "task": "arc_local"}
_CROWS = {"name": "crows", "kind": "crowsPairs"}


def _toxicity(model: dict[str, Any]) -> dict[str, Any]:
    classifier = {"model": model, "label": "toxic"}
    suite = {"name": "mean", "kind": "toxicity", "classifier": classifier}
    return {"evaluation": {"fairness": {"suites": [suite]}}}


SECRET_BREACHES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (
        {"model": {"uri": "file://a", **SECRET}},
        "spec.model.secretRef",
        {"model": MODEL | SECRET},
    ),
    (
        {"dataset": {"train": {"uri": "python://a/b", **SECRET}}},
        "spec.dataset.train.secretRef",
        {"dataset": {"train": TRAIN | SECRET}},
    ),
    (
        {"dataset": {"train": TRAIN, "validation": {"uri": "file://b", **SECRET}}},
        "spec.dataset.validation.secretRef",
        {"dataset": {"train": TRAIN, "validation": TRAIN | SECRET}},
    ),
    (
        {
            "dataset": {
                "train": TRAIN,
                "cleaning": {"contamination": {"against": [{"uri": "file://b", **SECRET}]}},
            }
        },
        "spec.dataset.cleaning.contamination.against[0].secretRef",
        {
            "dataset": {
                "train": TRAIN,
                "cleaning": {"contamination": {"against": [TRAIN | SECRET]}},
            }
        },
    ),
    (
        {"dataset": {"train": TRAIN, "replay": {"source": {"uri": "file://b", **SECRET}}}},
        "spec.dataset.replay.source.secretRef",
        {"dataset": {"train": TRAIN, "replay": {"source": TRAIN | SECRET}}},
    ),
    (
        {
            "dataset": {
                "train": TRAIN,
                "synthesis": {"generator": {"model": {"uri": "file://m", **SECRET}}},
            }
        },
        "spec.dataset.synthesis.generator.model.secretRef",
        {
            "dataset": {
                "train": TRAIN,
                "synthesis": {"generator": {"model": {"uri": "hf://a/b", **SECRET}}},
            }
        },
    ),
    (
        {
            "dataset": {
                "train": TRAIN,
                "augmentation": {"adversarial": {"sensitive": {"uri": "file://c", **SECRET}}},
            }
        },
        "spec.dataset.augmentation.adversarial.sensitive.secretRef",
        {
            "dataset": {
                "train": TRAIN,
                "augmentation": {"adversarial": {"sensitive": TRAIN | SECRET}},
            }
        },
    ),
    (
        {"training": {"distillation": {"teacher": {"model": {"uri": "file://m", **SECRET}}}}},
        "spec.training.distillation.teacher.model.secretRef",
        {"training": {"distillation": {"teacher": {"model": MODEL | SECRET}}}},
    ),
    (
        {"evaluation": {"generalText": {"uri": "file://c", **SECRET}}},
        "spec.evaluation.generalText.secretRef",
        {"evaluation": {"generalText": TRAIN | SECRET}},
    ),
    (
        _toxicity({"uri": "file://c", **SECRET}),
        "spec.evaluation.fairness.suites[0].classifier.model.secretRef",
        _toxicity(MODEL | SECRET),
    ),
    (
        {"evaluation": {"suites": [{**TASK, "uri": "file://tasks", **SECRET}]}},
        "spec.evaluation.suites[0].secretRef",
        {"evaluation": {"suites": [TASK | SECRET]}},
    ),
    (
        {
            "evaluation": {
                "fairness": {"suites": [_CROWS | {"source": {"uri": "file://c", **SECRET}}]}
            }
        },
        "spec.evaluation.fairness.suites[0].source.secretRef",
        {"evaluation": {"fairness": {"suites": [_CROWS | {"source": TRAIN | SECRET}]}}},
    ),
]
