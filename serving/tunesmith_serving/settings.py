"""The one place where vLLM's arguments and environment are made.

The verify stage proves a model with these settings and reports them; publish keeps them as
`serving.json`; serve starts vLLM from that file. So what was proved is what is served.
"""

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.serving import DEFAULT_MAX_MODEL_LENGTH, Serving
from tunesmith_serving.processor import has_bfloat16

_BYTES = {"bfloat16": 2, "float32": 4}
_GIB = 2**30
Count = Annotated[int, Field(ge=1)]


class ServingSettings(ApiModel):
    """How vLLM runs a model; the content of `serving.json`.

    `kv_cache_gib` is the memory for keys and values, in GiB. `max_batched_tokens` bounds the tokens
    of one forward pass, and with them the memory of activations.
    """

    model: Annotated[str, Field(min_length=1, max_length=256)]
    dtype: Literal["bfloat16", "float32"]
    enforce_eager: bool
    max_model_length: Count
    max_requests: Count = 8
    max_batched_tokens: Count = 2048
    kv_cache_gib: Count = 1

    def engine_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `vllm.LLM`, which are those of its server as well."""
        return {
            "dtype": self.dtype,
            "enforce_eager": self.enforce_eager,
            "max_model_len": self.max_model_length,
            "max_num_seqs": self.max_requests,
            "max_num_batched_tokens": self.max_batched_tokens,
        }

    def command_line(self, folder: Path, *, name: str, host: str, port: int) -> list[str]:
        """Arguments of vLLM's OpenAI server for the model in `folder`."""
        given = {
            "model": folder,
            "served-model-name": name,
            "host": host,
            "port": port,
            "dtype": self.dtype,
            "max-model-len": self.max_model_length,
            "max-num-seqs": self.max_requests,
            "max-num-batched-tokens": self.max_batched_tokens,
            # One process with the engine; see `environment`.
            "distributed-executor-backend": "uni",
            # Seconds in which running requests are answered after SIGTERM. Without it vLLM cuts
            # them off.
            "shutdown-timeout": 10,
        }
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
            # Whole GiB. Without it vLLM reserves a part of all memory, and does not start where
            # others use that.
            "VLLM_CPU_KVCACHE_SPACE": str(self.kv_cache_gib),
            # Engine and worker share one process. A worker of its own would bind its threads to
            # all cores but one and import everything once more: of three processes, most of the
            # start is imports. On a CPU vLLM turns the executor `uni` into `mp` unless this is 0.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_NO_USAGE_STATS": "1",
        }


def settings_for(
    serving: Serving, *, name: str, folder: Path, flags: frozenset[str]
) -> ServingSettings:
    """The settings for the model in `folder` on a processor with `flags`.

    float32 where the processor has no bfloat16 of its own: there it is quicker as well as exact.
    """
    config = read_config(folder)
    dtype: Literal["bfloat16", "float32"] = "bfloat16" if has_bfloat16(flags) else "float32"
    # A length that was asked for is taken as it is; beyond the model's context vLLM refuses it.
    length = serving.max_model_length or min(
        DEFAULT_MAX_MODEL_LENGTH, config.get("max_position_embeddings", DEFAULT_MAX_MODEL_LENGTH)
    )
    return ServingSettings(
        model=name,
        dtype=dtype,
        enforce_eager=serving.enforce_eager,
        max_model_length=length,
        # For two requests of full length: with room for one, a second would wait or be cut short.
        kv_cache_gib=_cache_gib(config, num_tokens=2 * length, num_bytes=_BYTES[dtype]),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model's folder."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def _cache_gib(config: dict[str, Any], *, num_tokens: int, num_bytes: int) -> int:
    """Whole GiB that hold the keys and values of `num_tokens` tokens."""
    num_heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // num_heads
    # Keys and values; grouped-query attention has fewer heads for them than for queries.
    per_layer = 2 * (config.get("num_key_value_heads") or num_heads) * head_dim * num_bytes
    return math.ceil(num_tokens * config["num_hidden_layers"] * per_layer / _GIB)
