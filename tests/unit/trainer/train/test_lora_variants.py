"""Every variant of LoRA from training to a merged model that computes the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config
from tuned_job import request_for
from tunesmith_engine.stages.catalog import COMPRESS
from tunesmith_trainer.models import load_tuned
from tunesmith_trainer.publish.model_card import method_name
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.export import export_tuned

CPU = torch.device("cpu")
IDS = torch.arange(1, 9)[None]

VARIANTS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"lora": {"useRslora": True}},
    "DoRA": {"lora": {"useDora": True}},
    "LoRA+": {"lora": {"loraplusLrRatio": 16.0}},
    "DoRA with rsLoRA with LoRA+": {
        "lora": {"useRslora": True, "useDora": True, "loraplusLrRatio": 4.0}
    },
    "LoRA, its first layer frozen": {"freeze": {"layers": 1}},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    small_model().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_trained_variant_is_merged_and_computes_the_same(
    base: Path, tmp_path: Path, name: str, precision: str
) -> None:
    config = a_train_config(
        training={
            "maxSteps": 4,
            "precision": precision,
            "optimizer": {"learningRate": 1e-2},
            **VARIANTS[name],
        }
    )
    model = build_trainable(base, config=config, device=CPU)
    loop = a_loop(model, config=config, folder=tmp_path / "checkpoints")
    loop.run()
    loop.load_best()

    export_tuned(model, base=base, base_uri="file://base", output=tmp_path)

    (tmp_path / "model").symlink_to(base)
    (tmp_path / "data").mkdir()
    request = request_for(tmp_path, COMPRESS.name, output=tmp_path / "compress")
    merged = load_tuned(request, dtype=torch.float32)
    assert not hasattr(merged, "peft_config")
    bf16 = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")
    with torch.no_grad():
        with bf16:
            expected = model.eval()(IDS).logits
        found, untrained = (each.eval()(IDS).logits for each in (merged, small_model()))
    assert (expected - untrained).abs().max() > 0.01
    # bf16 keeps what the adapters add in fp32, and rounds the frozen weights that it is added to.
    rounding = 1e-4 if precision == "fp32" else 0.1
    assert (found - expected).abs().max() < rounding * (expected - untrained).abs().max()


def test_a_resumed_variant_goes_on_bit_by_bit(base: Path, tmp_path: Path) -> None:
    """The groups of the optimizer have other rates; its state is kept by name."""
    config = a_train_config(
        training={
            "maxSteps": 4,
            "lora": {"useDora": True, "loraplusLrRatio": 4.0, "dropout": 0.1},
            "optimizer": {"layerDecay": 0.5},
            "schedule": {"type": "wsd", "cycles": 2},
        },
        checkpoint={"everySteps": 1},
    )

    def run(folder: Path, *, stop_after: int | None = None) -> dict[str, torch.Tensor]:
        model = build_trainable(base, config=config, device=CPU)

        def interrupt(history: Any, *, epoch: float) -> None:
            if history.step == stop_after:
                raise KeyboardInterrupt

        a_loop(model, config=config, folder=folder, on_step=interrupt).run()
        return dict(model.state_dict())

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=2)
    resumed = run(tmp_path / "cut")

    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_rank_stabilised_adapters_scale_rank_16_as_others_do() -> None:
    """alpha / sqrt(rank) with the default alpha is what alpha / rank is without it."""
    plain, stabilised = (
        a_train_config(training={"lora": {"useRslora": is_on}}).training.lora
        for is_on in (False, True)
    )

    assert plain.alpha == 32.0
    assert stabilised.alpha == 8.0
    assert plain.alpha / plain.rank == stabilised.alpha / stabilised.rank**0.5


@pytest.mark.parametrize("name", [name for name in VARIANTS if "frozen" not in name])
def test_the_model_card_calls_a_variant_by_its_name(name: str) -> None:
    assert method_name(a_train_config(training=VARIANTS[name]).training) == name


def test_excluded_modules_are_written_in_one_order(base: Path, tmp_path: Path) -> None:
    """PEFT keeps them in a set, whose order changes from process to process."""
    config = a_train_config(training={"freeze": {"layers": 1}})
    model = build_trainable(base, config=config, device=CPU)

    folder = export_tuned(model, base=base, base_uri="file://base", output=tmp_path)

    excluded = json.loads((folder / "adapter_config.json").read_text())["exclude_modules"]
    assert excluded == sorted(excluded)
    assert len(excluded) == 7
