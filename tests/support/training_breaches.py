"""What breaks the rules of `spec.training`, and the nearest thing that keeps them."""

from typing import Any

TRAIN = {"uri": "s3://t/a.jsonl"}
RATIONALES = {"dataset": {"train": TRAIN, "rationale": "why"}}
HIGHLIGHTS = {"dataset": {"train": TRAIN, "highlights": "because"}}
ATTRIBUTION = {"method": "attribution"}
HIGHLIGHT_GATE = {"suite": "highlights", "metric": "highlightShare", "minDelta": 0.0}
HELD = {**HIGHLIGHTS, "training": {"explanation": ATTRIBUTION}}
ONE_GROUP = {"name": "young", "terms": ["girl", "boy"]}


def _taught(**model: Any) -> dict[str, Any]:
    return {"teacher": {"model": {"uri": "hf://a/b", **model}}}


TAUGHT = _taught()

# As in `rule_breaches`, which holds them, too.
TRAINING_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "epochs-or-max-steps": [
        (
            {"training": {"epochs": 1, "maxSteps": 5}},
            "spec.training.maxSteps",
            {"training": {"maxSteps": 5}},
        )
    ],
    "teachers-teach-answers": [
        (
            {"training": {"objective": "dpo", "distillation": TAUGHT}},
            "spec.training.distillation",
            {"training": {"distillation": TAUGHT}},
        )
    ],
    "whole-students-answer": [
        (
            {"training": {"parallelism": "fsdp", "distillation": {**TAUGHT, "onPolicy": 0.5}}},
            "spec.training.distillation.onPolicy",
            {"training": {"distillation": {**TAUGHT, "onPolicy": 0.5}}},
        )
    ],
    "one-model-beside-the-trained": [
        (
            {"training": {"klToBase": {}, "distillation": TAUGHT}},
            "spec.training.distillation",
            {"training": {"klToBase": {}}},
        ),
        (
            {"training": {"adversarial": {}, "distillation": TAUGHT}},
            "spec.training.distillation",
            {"training": {"distillation": TAUGHT}},
        ),
    ],
    "teacher-has-no-template": [
        (
            {"training": {"distillation": _taught(chatTemplate="{{ messages }}")}},
            "spec.training.distillation.teacher.model.chatTemplate",
            {"training": {"distillation": TAUGHT}},
        )
    ],
    "control-within-training": [
        (
            {"training": {"maxSteps": 5, "control": {"steps": 6}}},
            "spec.training.control.steps",
            {"training": {"maxSteps": 5, "control": {"steps": 5}}},
        )
    ],
    "adapter-dropout-needs-adapters": [
        (
            {"training": {"method": "full", "lora": {"dropout": 0.1}}},
            "spec.training.lora.dropout",
            {"training": {"method": "full", "lora": {"rank": 4}}},
        )
    ],
    "early-stopping-can-stop": [
        (
            {
                "training": {
                    "maxSteps": 6,
                    "evaluateEverySteps": 2,
                    "earlyStopping": {"patience": 3},
                }
            },
            "spec.training.earlyStopping.patience",
            {
                "training": {
                    "maxSteps": 6,
                    "evaluateEverySteps": 2,
                    "earlyStopping": {"patience": 2},
                }
            },
        )
    ],
    "quantization-needs-adapters": [
        (
            {"training": {"method": "full", "lora": {"quantization": "nf4"}}},
            "spec.training.lora.quantization",
            {"training": {"lora": {"quantization": "nf4"}}},
        )
    ],
    "shards-are-plain": [
        (
            {"training": {"parallelism": "fsdp", **plain}},
            "spec.training.parallelism",
            {"training": {"parallelism": "ddp", **plain}},
        )
        for plain in (
            {"lora": {"quantization": "nf4"}},
            {"lora": {"useDora": True}},
            {"optimizer": {"type": "adamw_8bit"}},
        )
    ],
    "dpo-without-remedies-of-sft": [
        (
            {"training": {"objective": "dpo", "klToBase": {"weight": 0.1}}},
            "spec.training.objective",
            {"training": {"objective": "dpo", "dpo": {"beta": 0.2}}},
        ),
        (
            {"training": {"objective": "dpo", "regularization": {"neftuneNoiseAlpha": 5}}},
            "spec.training.objective",
            {"training": {"objective": "dpo", "regularization": {"attentionDropout": 0.1}}},
        ),
        (
            {"training": {"objective": "dpo", "adversarial": {}}},
            "spec.training.objective",
            {"training": {"objective": "sft", "adversarial": {}}},
        ),
    ],
    "shards-without-ascent": [
        (
            {"training": {"parallelism": "fsdp", "adversarial": {}}},
            "spec.training.parallelism",
            {"training": {"parallelism": "ddp", "adversarial": {}}},
        )
    ],
    "penalty-of-vat": [
        (
            {"training": {"adversarial": {"weight": 0.5}}},
            "spec.training.adversarial.weight",
            {"training": {"adversarial": {"type": "vat", "weight": 0.5}}},
        )
    ],
    "distance-of-paired-consistency": [
        (
            {"training": {"fairness": {"method": "groupDro", "distance": "symmetricKl"}}},
            "spec.training.fairness.distance",
            {"training": {"fairness": {"method": "pairedConsistency", "distance": "symmetricKl"}}},
        )
    ],
    "reweighting-goes-to-one": [
        (
            {"training": {"fairness": {"method": "reweighting", "strength": 2.0}}},
            "spec.training.fairness.strength",
            {"training": {"fairness": {"method": "groupDro", "strength": 2.0}}},
        )
    ],
    "remedied-groups-correspond": [
        (
            {"training": {"fairness": {"method": "groupDro", "groups": [ONE_GROUP]}}},
            "spec.training.fairness.groups",
            {"training": {"fairness": {"method": "groupDro", "groups": []}}},
        )
    ],
    "fairness-remedy-stands-alone": [
        (
            {"training": {"fairness": {"method": "groupDro"}, "adversarial": {}}},
            "spec.training.fairness",
            {"training": {"fairness": {"method": "groupDro"}}},
        ),
        (
            {"training": {"fairness": {"method": "groupDro"}, "objective": "dpo"}},
            "spec.training.fairness",
            {"training": {"fairness": {"method": "groupDro"}, "objective": "sft"}},
        ),
    ],
    "explanation-stands-alone": [
        (
            {**RATIONALES, "training": {"explanation": {}, "klToBase": {"weight": 0.1}}},
            "spec.training.explanation",
            {**RATIONALES, "training": {"explanation": {}}},
        )
    ],
    "rationales-for-explanation": [
        (
            {"training": {"explanation": {}}},
            "spec.dataset.rationale",
            {**RATIONALES, "training": {"explanation": {}}},
        ),
        (RATIONALES, "spec.dataset.rationale", {}),
        (
            {**RATIONALES, "training": {"explanation": ATTRIBUTION}}
            | {"dataset": {"train": TRAIN, "rationale": "why", "highlights": "because"}},
            "spec.dataset.rationale",
            HELD,
        ),
    ],
    "rationales-are-weighed": [
        (
            {**HIGHLIGHTS, "training": {"explanation": {**ATTRIBUTION, name: value}}},
            "spec.training.explanation.labelWeight",
            HELD,
        )
        for name, value in (("labelWeight", 0.5), ("instruction", "Say why."))
    ],
    "attributions-are-weighed": [
        (
            {**RATIONALES, "training": {"explanation": {"weight": 2.0}}},
            "spec.training.explanation.weight",
            {**HIGHLIGHTS, "training": {"explanation": {**ATTRIBUTION, "weight": 2.0}}},
        )
    ],
    "attributions-are-differentiated-twice": [
        (
            {**HIGHLIGHTS, "training": {"explanation": ATTRIBUTION, name: value}},
            "spec.training.explanation.method",
            {**RATIONALES, "training": {"explanation": {}, name: value}},
        )
        for name, value in (("compile", True), ("parallelism", "fsdp"))
    ],
    "highlights-for-attribution": [
        ({"training": {"explanation": ATTRIBUTION}}, "spec.dataset.highlights", HELD)
    ],
    "highlights-of-one-answer": [
        (
            {**HIGHLIGHTS, "training": {"objective": "dpo"}},
            "spec.dataset.highlights",
            {"training": {"objective": "dpo"}},
        )
    ],
    "highlight-gates-and-highlights": [
        (
            {"evaluation": {"gates": [HIGHLIGHT_GATE]}},
            "spec.evaluation.gates",
            {**HIGHLIGHTS, "evaluation": {"gates": [HIGHLIGHT_GATE]}},
        )
    ],
    "highlights-have-a-share": [
        (
            {**HIGHLIGHTS, "evaluation": {"gates": [{**HIGHLIGHT_GATE, "metric": "loss"}]}},
            "spec.evaluation.gates[0].metric",
            {**HIGHLIGHTS, "evaluation": {"gates": [HIGHLIGHT_GATE]}},
        )
    ],
    "dpo-without-packing": [
        (
            {"training": {"objective": "dpo", "packing": "bfd"}},
            "spec.training.packing",
            {"training": {"objective": "dpo", "packing": "auto"}},
        )
    ],
    "dpo-without-replay": [
        (
            {
                "training": {"objective": "dpo"},
                "dataset": {"train": TRAIN, "replay": {"source": TRAIN}},
            },
            "spec.dataset.replay",
            {"training": {"objective": "dpo"}},
        )
    ],
}
