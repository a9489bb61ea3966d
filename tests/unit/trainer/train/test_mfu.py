"""Model FLOPs: those of a run equal what torch counts of it, and only known devices have an MFU."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from small_models import SMALL_VOCABULARY, small_model
from small_runs import a_loop, a_train_config
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train import loop as loop_module
from tunesmith_trainer.train.adapters import make_trainable
from tunesmith_trainer.train.mfu import PEAK_BF16_FLOPS, ModelFlops, peak_flops
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy

CPU = torch.device("cpu")
LORA = {"method": "lora", "lora": {"rank": 4}}


@pytest.mark.parametrize(
    "training", [{"method": "full"}, LORA, {"method": "full", "freeze": {"layers": 1}}]
)
def test_the_estimate_is_what_torch_counts(training: dict[str, Any]) -> None:
    """Of rows of one length, without padding; torch counts one gradient less in the first layer."""
    config = a_train_config(training=training)
    model = make_trainable(small_model(), training=config.training, precision="fp32")
    rows = TokenRows.of([(list(range(1, 42)), [False] * 20 + [True] * 21)] * 4)
    objective = CrossEntropy(rows, device=CPU)
    flops = ModelFlops.of(model)
    assert flops is not None

    # NB: the fused attention of a processor is unknown to the counter; the plain one is not.
    model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter:
        objective.summed_loss(model, [0, 1, 2, 3]).backward()

    assert flops.of_step(objective.token_counts([0, 1, 2, 3])) == pytest.approx(
        counter.get_total_flops(), rel=0.12
    )


def test_a_full_step_costs_six_operations_for_each_weight() -> None:
    model = small_model()
    flops = ModelFlops.of(model)
    assert flops is not None

    weights = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    assert flops.per_input == 6 * weights
    assert flops.per_target == 6 * 16 * SMALL_VOCABULARY


def test_of_experts_nothing_is_guessed() -> None:
    model = small_model()
    model.config.num_local_experts = 8

    assert ModelFlops.of(model) is None


def test_only_a_known_card_in_bf16_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["NVIDIA H200", "NVIDIA H200", "NVIDIA H200 MIG 1g.18gb", "NVIDIA X9000"])

    class _Device:
        @staticmethod
        def get_device_name(_device: object) -> str:
            return next(names)

    monkeypatch.setattr(torch, "get_device_module", lambda _device: _Device)
    card = torch.device("cuda", 0)

    assert peak_flops(card, precision="bf16") == PEAK_BF16_FLOPS["NVIDIA H200"]
    assert peak_flops(card, precision="fp32") is None
    assert next(names) == "NVIDIA H200"
    assert peak_flops(card, precision="bf16") is None
    assert peak_flops(card, precision="bf16") is None
    assert peak_flops(CPU, precision="bf16") is None


def test_a_run_tells_the_part_of_the_peak(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "peak_flops", lambda *_, **__: 1e9)
    config = a_train_config(training={"method": "full", "maxSteps": 2})

    history = a_loop(small_model(), config=config, folder=tmp_path).run()

    parts = history.numbers("mfu")
    assert len(parts) == 2
    assert history.mfu is not None
    assert 0 < min(parts) <= history.mfu <= max(parts)
