"""`spec.serving` and `spec.verification`: how vLLM runs the model, and the proof of its answers."""

from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Fraction

# In tokens. vLLM's own default is the model's context, whose KV cache need not fit a laptop.
DEFAULT_MAX_MODEL_LENGTH: Final = 2048


class Speculative(ApiModel):
    """Tokens are guessed, and the model checks several in one pass: its answers stay the same.

    The guesses are what followed the same words before, in the request or in the answer: for
    answers that repeat their prompts, such as summaries, corrections and code. No draft model.
    """

    tokens: Annotated[int, Field(ge=1, le=16)] = Field(3, description="Guessed at a time.")
    lookup: Annotated[int, Field(ge=1, le=16)] = Field(
        3, description="The longest run of tokens that is looked up, down to one."
    )


class Serving(ApiModel):
    """How vLLM runs the model, in the verify stage and when it is served."""

    enforce_eager: bool = Field(
        True,
        description="false lets vLLM compile the model: it starts later, and verify judges that "
        "build.",
    )
    max_model_length: Annotated[
        Annotated[int, Field(ge=16, le=1_048_576)] | None,
        DecidedLater(f"{DEFAULT_MAX_MODEL_LENGTH} or the model's context, the smaller"),
    ] = Field(
        None,
        description="Longest request in tokens. "
        f"Default: {DEFAULT_MAX_MODEL_LENGTH} or the model's context, the smaller.",
    )
    speculative: Annotated[Speculative | None, DecidedLater("nothing is guessed")] = Field(
        None,
        description="Speculative decoding by n-grams; `speculative: {}` has every default. "
        "Default: nothing is guessed.",
    )


class Verification(ApiModel):
    """The same prompts through transformers and vLLM; both must answer alike."""

    prompts: Annotated[int, Field(ge=1, le=1000)] = 20
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 32
    measure_speed: bool = Field(
        True,
        description="Measure tokens/s of a quantized model beside the same model unquantized, for "
        "which vLLM is loaded once more, and say where the scheme does not pay.",
    )
    # Even against itself a W8A8 model agrees on no more than 0.85 to 0.94 of its tokens once a tiny
    # noise flips a rounding (docs/log.md): 1.0 would refuse sound models.
    min_agreement: Fraction = Field(
        0.9,
        description="Part of greedy tokens that must be equal, given the same tokens before them. "
        "From 64 tokens on, what chance explains at 95 % is borne.",
    )
    # Sound builds were measured at 0.08 to 0.14 nats (docs/log.md). A single prompt is held to four
    # times the bound, a single token to eight times.
    max_logprob_difference: Annotated[float, Field(gt=0.0, le=20.0)] = Field(
        0.25,
        description="Bound on the mean absolute difference of token log-probabilities, in nats.",
    )
