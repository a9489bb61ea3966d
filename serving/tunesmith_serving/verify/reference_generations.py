"""`reference.json`: prompts with the greedy answers that transformers gave, written by `compress`.

vLLM follows such an answer token by token. Behind a token that it chose otherwise there is no
reference any more, so an answer that departs early would leave few tokens to judge. It is decoded
anew behind the reference's own token, until all of its tokens are judged: how many those are then
does not depend on how vLLM answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field, JsonValue, model_validator

from tunesmith_api.base import ApiModel
from tunesmith_serving.verify.bias_pairs import BiasPair
from tunesmith_serving.verify.parity import TokenView

# A sound model departs from 32 tokens three or four times. A broken one does at each of them, and
# need not be followed to the end: what it costs is bounded by both.
MAX_CONTINUATIONS: Final = 8
MAX_CONTINUED_TOKENS: Final = 32

TokenIds = Annotated[list[int], Field(min_length=1)]


class ReferenceGeneration(ApiModel):
    """A prompt, the greedy answer, and the log-probability (nats) of each of its tokens."""

    prompt_ids: TokenIds
    answer_ids: TokenIds
    logprobs: list[float]
    kind: str

    @model_validator(mode="after")
    def _one_logprob_per_token(self) -> "ReferenceGeneration":
        # Token and log-probability are compared in pairs; a shorter list would hide the last ones.
        if len(self.logprobs) != len(self.answer_ids):
            raise ValueError(
                f"{len(self.answer_ids)} answer tokens with {len(self.logprobs)} log-probabilities"
            )
        return self

    def __len__(self) -> int:
        """Tokens of prompt and answer together."""
        return len(self.prompt_ids) + len(self.answer_ids)


class KnownChat(ApiModel):
    """A conversation, and what the tokenizer's chat template makes of it.

    Messages and tools are those of OpenAI's protocol, and go to the engine as they are.
    """

    messages: Annotated[list[dict[str, JsonValue]], Field(min_length=1)]
    tools: list[dict[str, JsonValue]] = Field(default_factory=list)
    prompt_ids: TokenIds


class ReferenceFile(ApiModel):
    """The content of `reference.json`."""

    # A later `compress` may say more about how it generated.
    model_config = ConfigDict(extra="ignore")

    dtype: str
    prompts: Annotated[list[ReferenceGeneration], Field(min_length=1)]
    chats: list[KnownChat] = Field(default_factory=list)
    bias_pairs: list[BiasPair] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Continuation:
    """Token ids that are given to vLLM, and what the reference went on with."""

    given: list[int]
    expected: list[int]


# A view of each expected token, up to and with the first that vLLM chooses differently.
Decode = Callable[[Sequence[Continuation]], Sequence[Sequence[TokenView]]]


def read_reference(path: Path) -> ReferenceFile:
    """The reference generations in `path`.

    Raises:
        pydantic.ValidationError: the file is not what compress writes.
    """
    return ReferenceFile.model_validate_json(path.read_text(encoding="utf-8"))


def continued_views(
    references: Sequence[ReferenceGeneration],
    decoded: Sequence[Sequence[TokenView]],
    *,
    decode: Decode,
) -> list[list[TokenView]]:
    """The views of the tokens behind those in `decoded`, in their order, for each reference."""
    num_judged = [len(views) for views in decoded]
    continued: list[list[TokenView]] = [[] for _ in references]
    for _ in range(MAX_CONTINUATIONS):
        # All that are not done yet go to vLLM together: a batch costs little more than one prompt.
        places = [
            place
            for place, reference in enumerate(references)
            if num_judged[place] < len(reference.answer_ids)
        ]
        if not places:
            break
        rests = [_rest_of(references[place], num_judged=num_judged[place]) for place in places]
        for place, views in zip(places, decode(rests), strict=True):
            continued[place].extend(views)
            num_judged[place] += len(views)
    return continued


def _rest_of(reference: ReferenceGeneration, *, num_judged: int) -> Continuation:
    answer = reference.answer_ids
    return Continuation(
        given=[*reference.prompt_ids, *answer[:num_judged]],
        expected=answer[num_judged : num_judged + MAX_CONTINUED_TOKENS],
    )
