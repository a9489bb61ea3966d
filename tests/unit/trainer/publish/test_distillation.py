"""What a model card tells of pruning."""

from typing import Any

from tunesmith_trainer.publish.distillation import distillation_section

FACTS: dict[str, Any] = {
    "accepted": True,
    "shape": {
        "before": {"layers": 30, "channels": 1536, "kvHeads": 3, "tokens": 49_152},
        "after": {"layers": 24, "channels": 1216, "kvHeads": 3, "tokens": 9_000},
    },
    "ladder": [
        {"model": name, "parameters": 1 << 20, "bytes": 2 << 20,
         "losses": {"heldOut": loss, "general": loss}, "kl": 0.5}
        for name, loss in (("tuned", 2.0), ("pruned", 4.0), ("distilled", 2.1))
    ],
    "recovery": {"heldOut": 0.952, "general": 0.952},
    "minRecovery": 0.9,
    "numSteps": 120,
    "tokens": 43_000,
    "method": "full",
    "objective": "forwardKl",
    "logits": "sampled",
}  # fmt: skip


def test_it_says_what_was_cut_and_what_came_back() -> None:
    (section,) = distillation_section(FACTS)

    assert "24 of 30 layers, 1,216 of 1,536 channels, 9,000 of 49,152 tokens were kept" in section
    assert "`forwardKl` to the tuned model, by tokens that it drew" in section
    assert "| recovered | 1,048,576 | 2 | 2.1 | 2.1 | 0.5 |" in section
    assert "The recovered model is what ships." in section


def test_a_refused_model_is_said_not_to_ship() -> None:
    (section,) = distillation_section({**FACTS, "accepted": False, "objective": "crossEntropy"})

    assert "ships unpruned" in section
    assert "on their answers alone" in section


def test_a_job_that_prunes_nothing_has_no_such_section() -> None:
    assert distillation_section({}) == []
