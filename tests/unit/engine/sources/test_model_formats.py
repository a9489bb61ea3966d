"""Models that could run code, or are damaged, are refused before anything opens them."""

import json
import struct
from pathlib import Path

import pytest

from small_models import safetensors, write_model
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.resolver import fetch_model


def refusal_of(path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetch_model(
            ModelSource(uri=path.as_uri()), base=path.parent, cache=path.parent, secrets=path.parent
        )
    assert not caught.value.retryable
    return caught.value


def test_the_facts_of_a_folder_are_read_from_its_headers(tmp_path: Path) -> None:
    facts = read_model_facts(write_model(tmp_path / "model"))

    assert facts.num_parameters == 32 * 8 + 8
    assert (facts.num_layers, facts.num_kv_heads, facts.context_length) == (2, 2, 64)
    assert facts.is_tied
    assert facts.has_chat_template


def test_a_tokenizer_whose_configuration_is_no_mapping_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "tokenizer_config.json").write_text("[]")

    with pytest.raises(SourceError, match=r"tokenizer_config\.json is no"):
        read_model_facts(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "last.ckpt"])
def test_pickled_weights_are_refused(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / name)

    error = refusal_of(model)

    assert error.reason is Reason.UNSAFE_WEIGHTS
    assert name in error.message


def test_a_pickle_that_is_named_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")

    assert refusal_of(tmp_path / "model.pt").reason is Reason.UNSAFE_WEIGHTS


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    content = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps({**content, "auto_map": {"AutoModel": "x.Y"}}))

    assert refusal_of(model).reason is Reason.REMOTE_CODE_REFUSED


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_part_is_named(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / name).unlink()

    error = refusal_of(model)

    assert error.reason is Reason.BASE_MODEL_NOT_FOUND
    assert name.removeprefix("model") in error.message


def _header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_settings_that_are_nested_without_end_are_refused(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / name).write_text('{"a": ' + "[" * 50_000)

    assert f"{name} is no JSON" in refusal_of(model).message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": 1 }',
        safetensors({"a": [4]})[:-1],
        safetensors({"a": [4]}) + b"x",
        _header('{"a": ' + "[" * 50_000),
        _header('{"a": ' + "[" * 300 + "]" * 300 + "}"),
        _header('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}'),
        _header(
            '{"a": {"dtype": "F32", "shape": [' + "9999," * 50 + '9], "data_offsets": [0, 0]}}'
        ),
        _header('{"a": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 0]}}'),
    ],
)
def test_damaged_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(content)

    error = refusal_of(model)

    assert error.reason is Reason.BASE_MODEL_NOT_FOUND
    assert "model.safetensors" in error.message


@pytest.mark.parametrize("shard", ["gone.safetensors", "../elsewhere.safetensors"])
def test_every_shard_of_the_index_must_lie_in_the_folder(shard: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    index = {"weight_map": {"a": "model.safetensors", "b": shard}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))

    assert shard in refusal_of(model).message


@pytest.mark.parametrize(
    "content",
    [
        b"GGML",
        b"GGUF" + struct.pack("<I", 9),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 99),
    ],
)
def test_a_damaged_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(content)

    assert refusal_of(tmp_path / "model.gguf").reason is Reason.BASE_MODEL_NOT_FOUND


def test_a_gguf_without_shape_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))

    with pytest.raises(SourceError, match="has no number"):
        read_model_facts(path)
