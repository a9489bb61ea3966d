"""The one place where vLLM's arguments and environment are made.

The verify stage proves a model with these settings and reports them; publish keeps them as
`serving.json`; serve starts vLLM from that file. So what was proved is what is served.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.serving import DEFAULT_MAX_MODEL_LENGTH, Serving, Speculative
from tunesmith_api.modeldeployment.engine import SHUTDOWN_TIMEOUT_S
from tunesmith_engine.sources.version_manifest import DRAFT_FOLDER
from tunesmith_serving import platforms
from tunesmith_serving.platforms import Capability, NumberFormat, Platform

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_GIB = 2**30
Count = Annotated[int, Field(ge=1)]


class ServingSettings(ApiModel):
    """How vLLM runs a model; the content of `serving.json`.

    `kv_cache_gib` is the memory for keys and values on a CPU, in GiB; on GPUs it is what the
    weights leave. `max_batched_tokens` bounds the tokens of one forward pass, and with them the
    memory of activations. `tensor_parallel_size` is the number of GPUs over which each layer is
    split. `speculative` is how tokens are guessed, where they are: a small model that does lies in
    the version's `draft/`.
    """

    model: Annotated[str, Field(min_length=1, max_length=256)]
    platform: Platform = "cpu"
    dtype: NumberFormat
    enforce_eager: bool
    max_model_length: Count
    max_requests: Count = 8
    max_batched_tokens: Count = 2048
    kv_cache_gib: Count = 1
    tensor_parallel_size: Count = 1
    speculative: Speculative | None = None

    @property
    def has_draft(self) -> bool:
        """Whether a small model beside this one guesses."""
        return self.speculative is not None and self.speculative.has_draft

    def speculative_config(self, draft: Path | None) -> dict[str, Any]:
        """What vLLM calls so, with the small model in `draft`; empty where nothing is guessed.

        Raises:
            ValueError: a small model is to guess, and there is none.
        """
        if self.speculative is None:
            return {}
        if self.speculative.has_draft:
            if draft is None:
                raise ValueError("a draft model is to guess, and its folder is not given")
            # NB: tensor parallelism and number format follow the target's; vLLM wants it so.
            return {
                "method": "draft_model",
                "model": str(draft),
                "num_speculative_tokens": self.speculative.tokens,
            }
        return {
            "method": "ngram",
            "num_speculative_tokens": self.speculative.tokens,
            "prompt_lookup_max": self.speculative.lookup,
            "prompt_lookup_min": 1,
        }

    def on(self, platform: Platform) -> Self:
        """The same model on `platform`, in the number format that was proved."""
        if platform == self.platform:
            return self
        return self.model_copy(update={"platform": platform, **platforms.batches(platform)})

    def without_guesses(self) -> Self:
        """The same model, and each token computed by itself."""
        return self.model_copy(update={"speculative": None})

    def engine_arguments(self, *, draft: Path | None = None) -> dict[str, Any]:
        """Keyword arguments of `vllm.LLM`, which are those of its server as well.

        `draft` is the folder of the small model that guesses, where one does.
        """
        speculative = self.speculative_config(draft)
        return {
            "dtype": self.dtype,
            "enforce_eager": self.enforce_eager,
            "max_model_len": self.max_model_length,
            "max_num_seqs": self.max_requests,
            "max_num_batched_tokens": self.max_batched_tokens,
            "tensor_parallel_size": self.tensor_parallel_size,
            **platforms.engine_arguments(self.platform),
            **({"speculative_config": speculative} if speculative else {}),
        }

    def command_line(
        self,
        folder: Path,
        *,
        name: str,
        host: str,
        port: int,
        shutdown_timeout: int = SHUTDOWN_TIMEOUT_S,
    ) -> list[str]:
        """Arguments of vLLM's OpenAI server for the published version in `folder`.

        `shutdown_timeout`: seconds in which running requests are answered after SIGTERM. Without it
        vLLM cuts them off.
        """
        given = {
            "model": folder,
            "served-model-name": name,
            "host": host,
            "port": port,
            "dtype": self.dtype,
            "max-model-len": self.max_model_length,
            "max-num-seqs": self.max_requests,
            "max-num-batched-tokens": self.max_batched_tokens,
            "tensor-parallel-size": self.tensor_parallel_size,
            **platforms.server_arguments(self.platform),
            "shutdown-timeout": shutdown_timeout,
        }
        if self.speculative is not None:
            given["speculative-config"] = json.dumps(self.speculative_config(folder / DRAFT_FOLDER))
        switches = ["--enforce-eager"] if self.enforce_eager else []
        switches += ["--no-enable-log-requests", "--disable-uvicorn-access-log"]
        return [
            part for key, value in given.items() for part in (f"--{key}", str(value))
        ] + switches

    def environment(self) -> dict[str, str]:
        """Environment variables that vLLM reads when it is imported.

        NB: set them before the first `import vllm`; it takes no notice of them afterwards.
        """
        # Eager also means no compiler: vLLM compiles single functions all the same, through
        # torch's Dynamo, and fails where there is no g++, as in the server's image.
        eager = {"TORCHDYNAMO_DISABLE": "1"} if self.enforce_eager else {}
        return {
            **eager,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
            "TOKENIZERS_PARALLELISM": "false",
            **platforms.environment(self.platform, kv_cache_gib=self.kv_cache_gib),
            "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
            "VLLM_NO_USAGE_STATS": "1",
        }


def settings_for(
    serving: Serving,
    *,
    name: str,
    folder: Path,
    platform: Platform,
    flags: frozenset[str] = frozenset(),
    capability: Capability | None = None,
    draft: Path | None = None,
) -> ServingSettings:
    """The settings for the model in `folder` on `platform`; `draft` has the one that guesses.

    The processor's `flags`, or the GPU's `capability`, decide the number format.
    """
    speculative = serving.with_defaults().speculative
    config = read_config(folder)
    dtype = platforms.number_format(platform, flags=flags, capability=capability)
    # A length that was asked for is taken as it is; beyond the model's context vLLM refuses it.
    length = serving.max_model_length or min(
        DEFAULT_MAX_MODEL_LENGTH, config.get("max_position_embeddings", DEFAULT_MAX_MODEL_LENGTH)
    )
    return ServingSettings(
        model=name,
        platform=platform,
        dtype=dtype,
        enforce_eager=serving.enforce_eager,
        max_model_length=length,
        speculative=speculative.as_served() if speculative else None,
        # For two requests of full length: with room for one, a second would wait or be cut short.
        kv_cache_gib=_cache_gib(
            [config, *([read_config(draft)] if draft else [])],
            num_tokens=2 * length,
            num_bytes=_BYTES[dtype],
        ),
        **platforms.batches(platform),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model's folder."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def _cache_gib(configs: Sequence[Mapping[str, Any]], *, num_tokens: int, num_bytes: int) -> int:
    """Whole GiB that hold the keys and values of `num_tokens` tokens in each of the models."""
    per_token = sum(_cache_bytes(config, num_bytes=num_bytes) for config in configs)
    return math.ceil(num_tokens * per_token / _GIB)


def _cache_bytes(config: Mapping[str, Any], *, num_bytes: int) -> int:
    """Bytes for the keys and values of a token."""
    num_heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // num_heads
    # Keys and values; grouped-query attention has fewer heads for them than for queries.
    per_layer = 2 * (config.get("num_key_value_heads") or num_heads) * head_dim * num_bytes
    return int(config["num_hidden_layers"] * per_layer)
