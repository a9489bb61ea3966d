"""vLLM's arguments and environment come from one record, whoever starts vLLM."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.serving import Serving
from tunesmith_serving.settings import ServingSettings, settings_for

CONFIG: dict[str, Any] = {
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "max_position_embeddings": 8192,
}


def settings(
    folder: Path, serving: Serving | None = None, *, flags: str = "", **config: Any
) -> ServingSettings:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return settings_for(
        serving or Serving(),
        name="helpdesk",
        folder=folder,
        platform="cpu",
        flags=frozenset(flags.split()),
    )


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("avx2 fma", "float32"),
        ("avx2 avx512f avx512_vnni", "float32"),
        ("avx2 avx512f avx512_bf16", "bfloat16"),
        ("avx2 avx512f avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        ("asimd bf16", "bfloat16"),
        ("", "float32"),
    ],
)
def test_bfloat16_is_used_where_the_processor_has_it(
    tmp_path: Path, flags: str, dtype: str
) -> None:
    assert settings(tmp_path, flags=flags).dtype == dtype


def test_guessed_tokens_are_vllms_n_grams_for_engine_and_server_alike(tmp_path: Path) -> None:
    guessing = settings(tmp_path, Serving.model_validate({"speculative": {"tokens": 4}}))

    asked = guessing.engine_arguments()["speculative_config"]
    words = guessing.command_line(tmp_path, name="m", host="h", port=1)

    assert asked == {
        "method": "ngram",
        "num_speculative_tokens": 4,
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
    }
    assert json.loads(words[words.index("--speculative-config") + 1]) == asked
    plain = settings(tmp_path)
    assert "speculative_config" not in plain.engine_arguments()
    assert "--speculative-config" not in plain.command_line(tmp_path, name="m", host="h", port=1)


def test_a_draft_is_loaded_from_where_it_lies_and_a_server_finds_it_in_the_version(
    tmp_path: Path,
) -> None:
    asked = Serving.model_validate({"speculative": {"method": "draftModel", "tokens": 4}})
    pair = settings(tmp_path, asked)

    found = pair.engine_arguments(draft=tmp_path / "small")["speculative_config"]
    words = pair.command_line(tmp_path / "version", name="m", host="h", port=1)

    small = str(tmp_path / "small")
    assert found == {"method": "draft_model", "model": small, "num_speculative_tokens": 4}
    served = json.loads(words[words.index("--speculative-config") + 1])
    assert served == {**found, "model": str(tmp_path / "version" / "draft")}
    # How it was made is no server's business.
    assert pair.model_dump(exclude_none=True)["speculative"] == {
        "method": "draftModel",
        "tokens": 4,
    }
    assert "speculative_config" not in pair.without_guesses().engine_arguments()
    with pytest.raises(ValueError, match="folder is not given"):
        pair.engine_arguments()


def test_settings_of_an_earlier_release_guess_by_n_grams(tmp_path: Path) -> None:
    written = json.loads(settings(tmp_path).model_dump_json(by_alias=True))

    read = ServingSettings.model_validate({**written, "speculative": {"tokens": 3, "lookup": 2}})

    assert read.engine_arguments()["speculative_config"] == {
        "method": "ngram",
        "num_speculative_tokens": 3,
        "prompt_lookup_max": 2,
        "prompt_lookup_min": 1,
    }


@pytest.mark.parametrize(
    ("asked", "context", "length"), [(None, 8192, 2048), (None, 512, 512), (4096, 8192, 4096)]
)
def test_requests_are_as_long_as_asked_or_as_the_context_allows(
    tmp_path: Path, asked: int | None, context: int, length: int
) -> None:
    found = settings(tmp_path, Serving(max_model_length=asked), max_position_embeddings=context)

    assert found.max_model_length == length


def test_the_cache_holds_two_requests_of_full_length(tmp_path: Path) -> None:
    """7B models without grouped heads need 1 MiB per token in float32."""
    large = settings(
        tmp_path,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        hidden_size=4096,
    )

    assert settings(tmp_path).kv_cache_gib == 1
    assert large.kv_cache_gib == 4


def test_the_cache_holds_what_a_draft_keeps_of_them_as_well(tmp_path: Path) -> None:
    shape = {"num_attention_heads": 32, "num_key_value_heads": 32, "hidden_size": 4096}
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "config.json").write_text(json.dumps({**CONFIG, **shape, "num_hidden_layers": 8}))
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **shape, "num_hidden_layers": 32}))

    pair = settings_for(
        Serving.model_validate({"speculative": {"method": "draftModel"}}),
        name="helpdesk",
        folder=tmp_path,
        platform="cpu",
        draft=draft,
    )

    assert pair.kv_cache_gib == 5


def test_the_server_gets_what_the_verify_stage_used(tmp_path: Path) -> None:
    found = settings(tmp_path, Serving(enforce_eager=True, max_model_length=1024))
    arguments = found.engine_arguments()

    line = found.command_line(tmp_path, name="helpdesk", host="127.0.0.1", port=8123)
    options = dict(pairwise(line))

    assert options["--dtype"] == arguments["dtype"]
    assert options["--max-model-len"] == str(arguments["max_model_len"]) == "1024"
    assert options["--max-num-seqs"] == str(arguments["max_num_seqs"])
    assert options["--max-num-batched-tokens"] == str(arguments["max_num_batched_tokens"])
    assert ("--enforce-eager" in line) is arguments["enforce_eager"] is True
    assert options["--served-model-name"] == "helpdesk"
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "8123")


def test_a_compiled_build_is_served_only_if_it_was_asked_for(tmp_path: Path) -> None:
    found = settings(tmp_path, Serving(enforce_eager=False))

    line = found.command_line(tmp_path, name="m", host="127.0.0.1", port=1)

    assert "--enforce-eager" not in line
    assert found.engine_arguments()["enforce_eager"] is False


@pytest.mark.parametrize(("eager", "disabled"), [(True, "1"), (False, None)])
def test_an_eager_build_needs_no_compiler(
    tmp_path: Path, disabled: str | None, *, eager: bool
) -> None:
    environment = settings(tmp_path, Serving(enforce_eager=eager)).environment()

    assert environment.get("TORCHDYNAMO_DISABLE") == disabled


def test_vllm_neither_reports_usage_nor_asks_a_hub(tmp_path: Path) -> None:
    environment = settings(tmp_path).environment()

    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_the_record_survives_being_written(tmp_path: Path) -> None:
    found = settings(tmp_path)

    assert ServingSettings.model_validate_json(found.model_dump_json(by_alias=True)) == found
