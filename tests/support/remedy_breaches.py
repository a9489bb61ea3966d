"""What breaks the rules of `spec.dataset`, and the nearest that keeps them."""

from typing import Any

from training_breaches import TRAIN

ENDPOINT = {"url": "https://api.example.com/v1", "model": "large"}
PRICED = {**ENDPOINT, "pricePerMillionTokens": {"input": 1, "output": 2}}


def _dataset(**fields: Any) -> dict[str, Any]:
    return {"dataset": {"train": TRAIN, **fields}}


REMEDY_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "validation-or-fraction": [
        (
            _dataset(validation=TRAIN, validationFraction=0.5),
            "spec.dataset.validationFraction",
            _dataset(validation=TRAIN),
        )
    ],
    "other-languages-than-some": [
        (
            _dataset(cleaning={"noise": {"otherLanguages": "remove"}}),
            "spec.dataset.cleaning.noise.languages",
            _dataset(cleaning={"noise": {"otherLanguages": "remove", "languages": ["de"]}}),
        ),
    ],
    "replay-has-one-source": [
        (
            {"dataset": {"train": TRAIN, "replay": {"ratio": 0.1}}},
            "spec.dataset.replay",
            {"dataset": {"train": TRAIN, "replay": {"selfSynthesis": {}}}},
        ),
        (
            {"dataset": {"train": TRAIN, "replay": {"source": TRAIN, "selfSynthesis": {}}}},
            "spec.dataset.replay",
            {"dataset": {"train": TRAIN, "replay": {"source": TRAIN}}},
        ),
    ],
    "validation-or-split": [
        (
            _dataset(validation=TRAIN, split={"stratifyBy": "topic"}),
            "spec.dataset.split",
            _dataset(split={"stratifyBy": "topic"}),
        )
    ],
    "time-split-has-its-column": [
        (
            _dataset(split={"by": "time"}),
            "spec.dataset.split.timeColumn",
            _dataset(split={"by": "time", "timeColumn": "at"}),
        ),
        (
            _dataset(split={"timeColumn": "at"}),
            "spec.dataset.split.timeColumn",
            _dataset(split={"by": "random"}),
        ),
    ],
    "time-split-without-strata": [
        (
            _dataset(split={"by": "time", "timeColumn": "at", "stratifyBy": "topic"}),
            "spec.dataset.split.stratifyBy",
            _dataset(split={"stratifyBy": "topic"}),
        )
    ],
    "augmentation-has-a-generator": [
        (
            _dataset(augmentation={"seed": 1}),
            "spec.dataset.augmentation",
            _dataset(augmentation={"seed": 1, "synonyms": {}}),
        )
    ],
    "one-child-of-each-generator": [
        (
            _dataset(augmentation={"ratio": 1.5, "backTranslation": {}}),
            "spec.dataset.augmentation.ratio",
            _dataset(
                augmentation={
                    "ratio": 1.5,
                    "backTranslation": {},
                    "paraphrase": {"endpoint": ENDPOINT},
                }
            ),
        )
    ],
    "one-generator": [
        (
            _dataset(synthesis={"generator": {"endpoint": ENDPOINT, "model": {"uri": "hf://a/b"}}}),
            "spec.dataset.synthesis.generator.model",
            _dataset(synthesis={"generator": {"model": {"uri": "hf://a/b"}}}),
        )
    ],
    "each-method-once": [
        (
            _dataset(synthesis={"methods": ["evolve", "evolve"]}),
            "spec.dataset.synthesis.methods",
            _dataset(synthesis={"methods": ["evolve", "selfInstruct"]}),
        )
    ],
    "critic-has-a-bound": [
        (
            _dataset(synthesis={"critic": {"minScore": 1, "endpoint": ENDPOINT}}),
            "spec.dataset.synthesis.critic.endpoint",
            _dataset(synthesis={"critic": {"minScore": 2, "endpoint": ENDPOINT}}),
        )
    ],
    "cost-has-prices": [
        (
            _dataset(synthesis={"maxCost": 5, "generator": {"endpoint": ENDPOINT}}),
            "spec.dataset.synthesis.maxCost",
            _dataset(synthesis={"maxCost": 5, "generator": {"endpoint": PRICED}}),
        )
    ],
    "synthesis-writes-answers": [
        (
            {**_dataset(synthesis={}), "training": {"objective": "dpo"}},
            "spec.dataset.synthesis",
            _dataset(synthesis={}),
        )
    ],
    "balance-has-groups": [
        (
            _dataset(balance={"method": "undersample"}),
            "spec.dataset.balance.columns",
            _dataset(balance={"method": "undersample", "lengths": [64]}),
        )
    ],
    "undersampling-repeats-nothing": [
        (
            _dataset(balance={"columns": ["a"], "method": "undersample", "maxRepeats": 2}),
            "spec.dataset.balance.maxRepeats",
            _dataset(balance={"columns": ["a"], "maxRepeats": 2}),
        )
    ],
}
