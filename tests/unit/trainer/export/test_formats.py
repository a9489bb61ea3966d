"""What a format cannot hold is refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from small_models import make_tiny_model
from tunesmith_api.finetunejob.export import Export
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.export.formats import refuse_unwritable

ONNX = {"format": "onnx", "precision": "fp32"}
GGUF = {"format": "gguf", "precision": "Q8_0"}
LITERT = {"format": "litert", "precision": "int8"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def asked(model: Path, *formats: dict[str, str], architecture: str, **fields: Any) -> None:
    config = LlamaConfig(architectures=[architecture])
    export = Export.model_validate({"formats": formats, **fields})
    refuse_unwritable(export, model, config=config, num_parameters=1_000_000)


def test_what_every_format_can_hold_is_let_through(model: Path) -> None:
    asked(model, ONNX, GGUF, LITERT, architecture="LlamaForCausalLM", maxSize="4M")


@pytest.mark.parametrize(
    ("wanted", "architecture", "says"),
    [
        (ONNX, "FalconForCausalLM", "builder does not know FalconForCausalLM"),
        (GGUF, "GemmaForCausalLM", "GemmaForCausalLM is none of"),
        (LITERT, "OlmoForCausalLM", "writer of LiteRT does not know OlmoForCausalLM"),
    ],
)
def test_an_architecture_that_a_writer_does_not_know_is_refused(
    model: Path, wanted: dict[str, str], architecture: str, says: str
) -> None:
    with pytest.raises(BadInputError, match=rf"spec\.export\.formats.*{says}"):
        asked(model, wanted, architecture=architecture)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic"},
        {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "dynamic"}},
    ],
    ids=["of-all-layers", "of-some"],
)
def test_a_rope_that_litert_does_not_know_is_refused(model: Path, rope: dict[str, Any]) -> None:
    config = LlamaConfig(architectures=["LlamaForCausalLM"])
    config.rope_parameters = rope

    with pytest.raises(BadInputError, match=r"spec\.export\.formats.*ropes of type dynamic"):
        refuse_unwritable(
            Export.model_validate({"formats": [LITERT]}), model, config=config, num_parameters=1
        )


def test_a_cache_that_is_longer_than_the_context_is_refused(model: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"spec\.export\.contextLength: 4096 is more than the 2048"
    ):
        asked(model, LITERT, architecture="LlamaForCausalLM", contextLength=4096)


def test_a_size_that_the_parameters_cannot_have_is_refused(model: Path) -> None:
    with pytest.raises(BadInputError, match=r"spec\.export\.formats\[1\]: 1,000,000 parameters"):
        asked(model, GGUF, ONNX, architecture="LlamaForCausalLM", maxSize="3M")
