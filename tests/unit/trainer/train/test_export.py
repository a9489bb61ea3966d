"""What training builds on and what it leaves: adapters and models that others load."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from small_models import small_model
from small_runs import a_train_config
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.parameter_groups import trainable_parameters

CPU = torch.device("cpu")
IDS = torch.arange(1, 9)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    small_model().save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def test_an_adapter_folder_loads_in_peft_and_computes_the_same(base: Path, tmp_path: Path) -> None:
    model = build_trainable(base, config=a_train_config(), device=CPU)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05)

    folder = export_tuned(model, base=base, base_uri="hf://org/base@main", output=tmp_path)

    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    torch.testing.assert_close(loaded(IDS).logits, model.eval()(IDS).logits)
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_an_adapter_names_no_folder_of_the_machine_that_made_it(base: Path, tmp_path: Path) -> None:
    model = build_trainable(base, config=a_train_config(), device=CPU)

    folder = export_tuned(model, base=base, base_uri="file:///home/me/base", output=tmp_path)

    config = (folder / "adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] is None
    assert str(base) not in config


def test_the_same_adapter_is_the_same_bytes_in_every_process(base: Path, tmp_path: Path) -> None:
    """PEFT keeps the targets in a set, whose order changes from process to process."""
    model = build_trainable(base, config=a_train_config(), device=CPU)

    folder = export_tuned(model, base=base, base_uri="file://base", output=tmp_path)

    targets = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)
    assert len(targets) == 14


def test_a_full_model_folder_has_weights_and_tokenizer(base: Path, tmp_path: Path) -> None:
    config = a_train_config(training={"method": "full"})
    model = build_trainable(base, config=config, device=CPU)
    (tmp_path / "tuned").mkdir()

    folder = export_tuned(model, base=base, base_uri="file://base", output=tmp_path)

    loaded = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(loaded(IDS).logits, model.eval()(IDS).logits)
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names


def test_only_adapters_are_trained_and_they_start_without_effect(base: Path) -> None:
    model = build_trainable(base, config=a_train_config(), device=CPU)

    names = list(trainable_parameters(model))
    assert names
    assert all("lora_" in name for name in names)
    assert not any("lm_head" in name for name in names)
    torch.testing.assert_close(model.eval()(IDS).logits, small_model()(IDS).logits)


def test_named_targets_get_adapters_and_others_none(base: Path) -> None:
    config = a_train_config(training={"lora": {"targetModules": ["q_proj", "v_proj"]}})

    names = list(trainable_parameters(build_trainable(base, config=config, device=CPU)))

    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in names} == {"q_proj", "v_proj"}


def test_unknown_targets_are_refused_by_name_with_those_that_exist(base: Path) -> None:
    config = a_train_config(training={"lora": {"targetModules": ["q_proj", "query", "mlp"]}})

    with pytest.raises(BadInputError, match=r"no linear module query, mlp; .*down_proj.*q_proj"):
        build_trainable(base, config=config, device=CPU)


def test_frozen_layers_are_held_in_bf16_where_autocast_would_cast_them(base: Path) -> None:
    config = a_train_config(training={"precision": "bf16"})
    model = build_trainable(base, config=config, device=CPU)

    types = {name: weight.dtype for name, weight in model.named_parameters()}
    frozen = {types[name] for name in types if name.endswith("proj.base_layer.weight")}
    assert frozen == {torch.bfloat16}
    assert {types[name] for name in types if "proj" not in name} == {torch.float32}
    assert {types[name] for name in trainable_parameters(model)} == {torch.float32}
