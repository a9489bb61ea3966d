"""`spec.serving` and `spec.verification`: how vLLM runs the model, and the proof of its answers."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.field_types import Fraction
from tunesmith_api.finetunejob.prune import Prune, Student
from tunesmith_api.rules import Rule

# In tokens. vLLM's own default is the model's context, whose KV cache need not fit a laptop.
DEFAULT_MAX_MODEL_LENGTH: Final = 2048


DEFAULT_LOOKUP: Final = 3
# N-grams cost next to nothing. A guess of a draft takes a pass of it, and by one at a time it pays
# wherever it does by more (Leviathan et al. 2023, arXiv 2211.17192, corollary 3.9).
DEFAULT_TOKENS: Final[Mapping[str, int]] = {"ngram": 3, "draftModel": 1}
# Guesses pay where a greater part of them is taken than the draft has of its model: half of the
# layers would ask for more than half of them, and gain a third if all were (`docs/task/serve.md`).
DEFAULT_DRAFT_RATIO: Final = 0.8


class Draft(Student):
    """A small model that guesses: what is left of the tuned one, taught to answer as that does.

    Its teacher is the model that ships, unquantized. It has the same tokens.
    """

    default_ratio: ClassVar[float] = DEFAULT_DRAFT_RATIO

    ratio: Annotated[Annotated[float, Field(gt=0.0, lt=1.0)] | None, PlannedDefault()] = Field(
        None,
        description=f"Part of each axis that goes. Default {DEFAULT_DRAFT_RATIO:g}; not with "
        "`maxParameters`.",
    )

    def as_prune(self) -> Prune:
        """The same cut and recovery, as the stage that prunes takes them."""
        return Prune.model_validate(self.model_dump())


class Speculative(ApiModel):
    """Tokens are guessed, and the model checks several in one pass: its answers stay the same."""

    method: Literal["ngram", "draftModel"] = Field(
        "ngram",
        description="Who guesses. ngram: what followed the same words before, in the request or in "
        "the answer; for answers that repeat their prompts, such as summaries, corrections and "
        "code. draftModel: a small model that the job distils from the tuned one; the version has "
        "it in `draft/`.",
    )
    tokens: Annotated[Annotated[int, Field(ge=1, le=16)] | None, PlannedDefault()] = Field(
        None,
        description=f"Guessed at a time. Default: {DEFAULT_TOKENS['ngram']} for ngram, "
        f"{DEFAULT_TOKENS['draftModel']} for draftModel.",
    )
    lookup: Annotated[Annotated[int, Field(ge=1, le=16)] | None, PlannedDefault()] = Field(
        None,
        description="The longest run of tokens that is looked up, down to one, for method: ngram. "
        f"Default {DEFAULT_LOOKUP}.",
    )
    draft: Annotated[Draft | None, PlannedDefault()] = Field(
        None,
        description="How the small model is made, for method: draftModel. Default: `draft: {}`.",
    )

    @property
    def has_draft(self) -> bool:
        """Whether a small model guesses."""
        return self.method == "draftModel"

    def with_defaults(self) -> Self:
        """With what the method leaves open filled in."""
        update: dict[str, object] = {"tokens": self.tokens or DEFAULT_TOKENS[self.method]}
        if self.has_draft:
            update["draft"] = (self.draft or Draft()).with_defaults()
        else:
            update["lookup"] = self.lookup or DEFAULT_LOOKUP
        return self.model_copy(update=update)

    def as_served(self) -> Self:
        """Without how the small model was made, which no server asks."""
        return self.model_copy(update={"draft": None})


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
        description="Speculative decoding; `speculative: {}` guesses by n-grams. Default: nothing "
        "is guessed.",
    )

    def with_defaults(self) -> Self:
        """With what guessing leaves open filled in."""
        speculative = self.speculative.with_defaults() if self.speculative else None
        return self.model_copy(update={"speculative": speculative})


class Verification(ApiModel):
    """The same prompts through transformers and vLLM; both must answer alike."""

    prompts: Annotated[int, Field(ge=1, le=1000)] = 20
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 32
    measure_speed: bool = Field(
        True,
        description="Measure tokens/s of a quantized model beside the same model unquantized, and "
        "with guessed tokens beside without, for each of which vLLM is loaded once more; say where "
        "the scheme or the guesses do not pay.",
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


RULES: Final[tuple[Rule[Speculative], ...]] = (
    Rule(
        name="draft-of-draft-model",
        scopes=("serving.speculative",),
        field="draft",
        holds=lambda speculative: speculative.draft is None or speculative.has_draft,
        cel="!has(self.draft) || self.method == 'draftModel'",
        message="n-grams need no small model; leave draft out, or set method: draftModel",
    ),
    Rule(
        name="lookup-of-n-grams",
        scopes=("serving.speculative",),
        field="lookup",
        holds=lambda speculative: speculative.lookup is None or not speculative.has_draft,
        cel="!has(self.lookup) || self.method == 'ngram'",
        message="a draft model looks nothing up; leave lookup out, or set method: ngram",
    ),
)

DRAFT_RULES: Final[tuple[Rule[Draft], ...]] = (
    Rule(
        name="drafts-have-every-token",
        scopes=("serving.speculative.draft",),
        field="axes",
        holds=lambda draft: "vocabulary" not in draft.axes,
        cel="self.axes.all(axis, axis != 'vocabulary')",
        message="a draft guesses tokens of the model and must have all of them; leave vocabulary "
        "out, or name it in compression.prune.axes",
    ),
)
