"""What breaks the rules of `spec.compression.prune`, and the nearest that keeps them."""

from typing import Any


def _prune(**fields: Any) -> dict[str, Any]:
    return {"compression": {"prune": fields}}


def _draft(**fields: Any) -> dict[str, Any]:
    return {"serving": {"speculative": {"method": "draftModel", "draft": fields}}}


def _recovery(**fields: Any) -> dict[str, Any]:
    return _prune(recovery=fields)


PRUNE_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "ladder-has-candidates": [
        (
            {"compression": {"ladder": {}}},
            "spec.compression.ladder",
            {"compression": {"ladder": {"schemes": ["none"]}}},
        )
    ],
    "ladder-schemes-once": [
        (
            {"compression": {"ladder": {"schemes": ["W8A8"]}}},
            "spec.compression.ladder.schemes",
            {"compression": {"ladder": {"schemes": ["W4A16"]}}},
        ),
        (
            {"compression": {"ladder": {"schemes": ["none", "none"]}}},
            "spec.compression.ladder.schemes",
            {"compression": {"ladder": {"schemes": ["none"]}}},
        ),
    ],
    "ladder-ratios-descend": [
        (
            {"compression": {"ladder": {"ratios": [0.1]}}},
            "spec.compression.ladder.ratios",
            {"compression": {"ladder": {"ratios": [0.1]}, "prune": {"ratio": 0.2}}},
        ),
        (
            {"compression": {"ladder": {"ratios": [0.1]}, "prune": {}}},
            "spec.compression.ladder.ratios",
            {"compression": {"ladder": {"ratios": [0.1]}, "prune": {"ratio": 0.2}}},
        ),
        *(
            (
                {"compression": {"ladder": {"ratios": ratios}, "prune": {"ratio": 0.5}}},
                "spec.compression.ladder.ratios",
                {
                    "compression": {
                        "ladder": {"ratios": [0.4, 0.3, 0.2, 0.1]},
                        "prune": {"ratio": 0.5},
                    }
                },
            )
            for ratios in ([0.5], [0.4, 0.4], [0.4, 0.3, 0.35], [0.4, 0.3, 0.2, 0.25])
        ),
    ],
    "ratio-or-max-parameters": [
        (
            _prune(ratio=0.2, maxParameters=100_000_000),
            "spec.compression.prune.maxParameters",
            _prune(maxParameters=100_000_000),
        ),
        (
            _draft(ratio=0.2, maxParameters=100_000_000),
            "spec.serving.speculative.draft.maxParameters",
            _draft(maxParameters=100_000_000),
        ),
    ],
    "drafts-have-every-token": [
        (
            _draft(axes=["layers", "vocabulary"]),
            "spec.serving.speculative.draft.axes",
            _draft(axes=["layers", "channels"]),
        )
    ],
    "draft-of-draft-model": [
        (
            {"serving": {"speculative": {"draft": {}}}},
            "spec.serving.speculative.draft",
            _draft(),
        )
    ],
    "lookup-of-n-grams": [
        (
            {"serving": {"speculative": {"method": "draftModel", "lookup": 3}}},
            "spec.serving.speculative.lookup",
            {"serving": {"speculative": {"lookup": 3}}},
        )
    ],
    "tokens-go-by-no-ratio": [
        (
            _prune(axes=["vocabulary"], ratio=0.2),
            "spec.compression.prune.axes",
            _prune(axes=["vocabulary"]),
        ),
        (
            _prune(axes=["vocabulary"], maxParameters=100_000_000),
            "spec.compression.prune.axes",
            _prune(axes=["vocabulary", "layers"], maxParameters=100_000_000),
        ),
    ],
    "axes-once": [
        (
            _prune(axes=["layers", "layers"]),
            "spec.compression.prune.axes",
            _prune(axes=["layers", "channels"]),
        )
    ],
    "recovery-epochs-or-max-steps": [
        (
            _recovery(epochs=1.0, maxSteps=10),
            "spec.compression.prune.recovery.maxSteps",
            _recovery(maxSteps=10),
        ),
        (
            _draft(recovery={"epochs": 1.0, "maxSteps": 10}),
            "spec.serving.speculative.draft.recovery.maxSteps",
            _draft(recovery={"maxSteps": 10}),
        ),
    ],
    "cached-logits-give-forward-kl": [
        (
            _recovery(logits="sampled", objective="reverseKl"),
            "spec.compression.prune.recovery.logits",
            _recovery(logits="sampled"),
        ),
        (
            _recovery(logits="topK", objective="crossEntropy"),
            "spec.compression.prune.recovery.logits",
            _recovery(objective="crossEntropy"),
        ),
    ],
    "answers-have-no-teacher": [
        (
            _recovery(objective="crossEntropy", crossEntropyWeight=0.5),
            "spec.compression.prune.recovery.objective",
            _recovery(objective="reverseKl", crossEntropyWeight=0.5),
        ),
        (
            _recovery(objective="crossEntropy", temperature=2.0),
            "spec.compression.prune.recovery.objective",
            _recovery(objective="crossEntropy"),
        ),
    ],
    "pruned-models-are-whole": [
        (
            {**_prune(), "output": {"model": "m", "artifact": "both"}},
            "spec.compression.prune",
            {**_prune(), "output": {"model": "m", "artifact": "merged"}},
        )
    ],
}
