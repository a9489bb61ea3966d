"""`spec.engine`: how vLLM runs the model, beyond what was proven and published with the version.

Only arguments that neither run code, read files nor open the server to others can be given.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater

# Seconds. vLLM answers what arrives after SIGTERM with an abort in the dress of an answer
# (vllm#57082), so requests end before it, and few are left for vLLM's own timeout.
SHUTDOWN_TIMEOUT_S: Final = 10

Parser = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", max_length=64)]


class EngineArguments(ApiModel):
    """Arguments of vLLM's server, by its own names in camelCase."""

    gpu_memory_utilization: Annotated[
        Annotated[float, Field(ge=0.05, le=0.98)] | None, DecidedLater("vLLM's")
    ] = Field(None, description="Part of each GPU's memory that vLLM takes. Default: vLLM's.")
    kv_cache_dtype: Annotated[Literal["auto", "fp8"] | None, DecidedLater("vLLM's")] = Field(
        None, description="Number format of keys and values. Default: vLLM's."
    )
    max_num_batched_tokens: Annotated[
        Annotated[int, Field(ge=64, le=1_048_576)] | None, DecidedLater("the version's")
    ] = Field(None, description="Tokens of one forward pass. Default: as published.")
    max_num_queued_reqs: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None, DecidedLater("no bound")
    ] = Field(
        None, description="Requests that may wait before others get a 503. Default: no bound."
    )
    tool_call_parser: Annotated[Parser | None, DecidedLater("no tools")] = Field(
        None, description="vLLM's parser of tool calls: hermes, llama3_json. Default: no tools."
    )
    reasoning_parser: Annotated[Parser | None, DecidedLater("none")] = Field(
        None, description="vLLM's parser of reasoning: deepseek_r1, qwen3. Default: none."
    )

    def command_line(self) -> list[str]:
        """As vLLM's server takes them; those that are not given are left out."""
        given = self.model_dump(mode="json", exclude_none=True)
        words = [
            word
            for name, value in given.items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        return [*words, "--enable-auto-tool-choice"] if self.tool_call_parser else words


class Engine(ApiModel):
    """How vLLM runs the model."""

    max_model_length: Annotated[
        Annotated[int, Field(ge=16, le=1_048_576)] | None, DecidedLater("the version's")
    ] = Field(None, description="Longest request in tokens. Default: as verified and published.")
    max_requests: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None, DecidedLater("the version's")
    ] = Field(None, description="Requests that are computed together. Default: as published.")
    arguments: EngineArguments = EngineArguments()
