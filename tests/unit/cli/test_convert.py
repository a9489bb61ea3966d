"""`convert`: configurations of other tools become sound jobs, and nothing is lost in silence."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tunesmith_api.field_paths import records_in
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.manifest import load_job
from tunesmith_cli.conversion import convert
from tunesmith_cli.foreign_settings import AXOLOTL, COMBINED, LLAMA_FACTORY, Same
from tunesmith_cli.main import main

PAGE = Path(__file__).parents[3] / "docs/task/coming-from.md"
# As in both projects' own examples.
QLORA: dict[str, Any] = {
    "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "load_in_4bit": True,
    "datasets": [{"path": "data/alpaca.jsonl", "type": "alpaca"}], "val_set_size": 0.05,
    "output_dir": "./outputs/lora-out", "adapter": "qlora", "sequence_len": 2048, "lora_r": 32,
    "lora_alpha": 16, "lora_dropout": 0.05, "lora_target_linear": True, "wandb_project": None,
    "gradient_accumulation_steps": 4, "micro_batch_size": 2, "num_epochs": 3,
    "optimizer": "adamw_bnb_8bit", "lr_scheduler": "cosine", "learning_rate": 0.0002,
    "bf16": "auto", "warmup_steps": 10, "weight_decay": 0.0, "sample_packing": True,
    "gradient_checkpointing": True, "deepspeed": "zero2.json",
}  # fmt: skip
LLAMA3: dict[str, Any] = {
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct", "trust_remote_code": True,
    "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 8,
    "lora_target": "all", "dataset": "identity,alpaca_en_demo", "template": "llama3",
    "cutoff_len": 2048, "max_samples": 1000, "output_dir": "saves/llama3-8b/lora/sft",
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1e-4,
    "num_train_epochs": 3.0, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "bf16": True,
}  # fmt: skip


def test_axolotl() -> None:
    conversion = convert(QLORA)
    job = load_job(conversion.text())
    training = job.spec.training

    assert job.metadata.name == "lora-out"
    assert job.spec.model.uri == "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (job.spec.dataset.train.uri, job.spec.dataset.format) == (
        "file://data/alpaca.jsonl", "alpaca",
    )  # fmt: skip
    assert (training.method, training.lora.rank, training.lora.alpha) == ("lora", 32, 16)
    assert (training.batch.size, training.batch.micro_batch_size) == (8, 2)
    assert (training.epochs, training.optimizer.weight_decay) == (3, 0)
    assert {point.partition(":")[0] for point in conversion.open_points} == {
        "warmup_steps", "deepspeed",
    }  # fmt: skip
    assert (training.lora.quantization, training.packing) == ("nf4", "bfd")
    assert training.optimizer.type == "adamw_8bit"
    assert training.gradient_checkpointing == "all"


def test_llama_factory() -> None:
    conversion = convert(LLAMA3)
    job = load_job(conversion.text())

    assert job.spec.training.schedule.warmup_ratio == 0.1
    assert job.spec.training.precision == "bf16"
    assert job.spec.training.lora.target_modules == ["all-linear"]
    assert job.spec.training.batch.size == 8
    said = " ".join(conversion.open_points)
    assert "max_samples" in said
    assert "2 data sets" in said
    assert "template" not in said


def test_every_field_is_taken_told_or_needless() -> None:
    known = {**QLORA, "unheard_of": 3, "empty": None, "rl": None, "lr_scheduler": "one_cycle"}

    said = " ".join(convert(known).open_points)

    assert "unheard_of: 3 has no counterpart" in said
    assert 'lr_scheduler: "one_cycle" is not among cosine, linear' in said
    assert "empty" not in said
    assert "rl:" not in said


def test_steps_and_a_warm_up_in_steps_become_a_ratio() -> None:
    training = load_job(convert({**QLORA, "max_steps": 200}).text()).spec.training

    assert (training.max_steps, training.epochs) == (200, None)
    assert training.schedule.warmup_ratio == 0.05


def _paths(record: type[BaseModel], prefix: str = "") -> set[str]:
    paths = set()
    for one in record.model_fields.values():
        path = f"{prefix}{one.alias}"
        paths.add(path)
        for child, _ in records_in(one.annotation):
            paths |= _paths(child, f"{path}.")
    return paths


@pytest.mark.parametrize("fields", [AXOLOTL, LLAMA_FACTORY], ids=["axolotl", "llama-factory"])
def test_what_a_field_becomes_is_there_and_stands_on_the_page(fields: Any) -> None:
    page, paths = PAGE.read_text(), _paths(FineTuneJobSpec)
    for theirs, ours in fields.items():
        path = ours.path if isinstance(ours, Same) else COMBINED[ours]
        assert path in paths
        assert f"| `{theirs}` | `{path}` |" in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate: 1\n", "neither base_model (Axolotl)"),
        ("base_model: [\n", "line 2: no YAML"),
        ("base_model: m\nlearning_rate: 7\n", "spec.training.optimizer.learningRate"),
    ],
)
def test_what_makes_no_job_is_refused(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(text)

    assert main(["convert", str(path)]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_the_manifest_is_on_stdout_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(
        "base_model: a/b\ndatasets: [{path: x.jsonl, type: alpaca}]\nhub_model_id: me/x\n"
    )

    assert main(["convert", str(path)]) == 0

    captured = capsys.readouterr()
    assert load_job(captured.out).spec.dataset.train.uri == "file://x.jsonl"
    assert "# OPEN: hub_model_id" in captured.out
    assert captured.err == 'open  hub_model_id: "me/x" has no counterpart\n'


def test_names_of_turns_are_columns_and_flags_that_rows_may_have_need_no_person() -> None:
    data = {"path": "chat.jsonl", "type": "chat_template", "field_messages": "chat"}
    plain = convert({"base_model": "a/b", "datasets": [data | {"message_field_training": "train"}]})
    odd = {"message_field_training": "learn", "roles_to_train": ["user"]}
    other = convert({"base_model": "a/b", "datasets": [data | odd]})

    assert plain.spec["dataset"]["columns"] == {"messages": "chat"}
    assert not [point for point in plain.open_points if "train" in point]
    assert [point.split(":")[0] for point in other.open_points] == [
        "datasets.message_field_training",
        "datasets.roles_to_train",
    ]
