"""What a job leaves behind and a version keeps: artifacts, and measured numbers."""

from typing import Annotated

from pydantic import StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.conditions import Name

# Twice what a URI in a spec may have: a published file lies below it.
Address = Annotated[str, StringConstraints(max_length=2048)]


class EvaluationResult(ApiModel):
    """One number about the model.

    Its value, its bootstrap interval, the base model's value, and the rows behind it.

    `split` says what was measured: `tuned` is the tuned model before compression, `pruned` and
    `distilled` what was left of it before and after its recovery, `compressed` the model that
    ships. The base of the last three is the tuned model.
    """

    suite: Name
    split: Name
    metric: Name
    value: float
    low: float | None = None
    high: float | None = None
    base: float | None = None
    n: int


class Artifact(ApiModel):
    """Something a stage made: a file, or a folder whose digest covers every file in it."""

    name: Name
    uri: Address
    digest: Name
    bytes: int


class ExportedFormat(ApiModel):
    """A format of the model for devices: what it is, what it kept, and how fast it ran.

    Losses are nats per target token of the same held-out rows. `agreed_tokens` are the greedy
    tokens that its engine and transformers' fp32 have alike before the first that differs,
    `compared_tokens` all; `differs` tells that one does that was no tie;
    `tokenizes_alike` that its own tokenizer makes the model's tokens of the prompts. Speed and
    memory are those of the machine that made it.
    """

    name: Name
    format: Name
    precision: Name
    path: Address
    digest: Name
    bytes: int
    bf16_bytes: int
    engine: Name
    rows: int
    loss: float
    tuned_loss: float
    max_loss_rise: float
    agreed_tokens: int
    compared_tokens: int
    differs: bool
    tokenizes_alike: bool
    tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    load_seconds: float | None = None
    threads: int | None = None

    @property
    def loss_rise(self) -> float:
        """Nats per target token above the tuned model."""
        return self.loss - self.tuned_loss

    @property
    def is_larger(self) -> bool:
        """Whether it takes more than the model in bf16."""
        return self.bytes > self.bf16_bytes

    def without_timing(self) -> "ExportedFormat":
        """What another run on another machine finds as well."""
        timing = {
            "tokens_per_second",
            "prompt_tokens_per_second",
            "peak_memory_bytes",
            "load_seconds",
            "threads",
        }
        return self.model_copy(update=dict.fromkeys(timing))
