"""Goes on decoding where vLLM chose another token than the reference did.

What follows a different token has no reference, so an answer that departs early would leave few
tokens to judge. It is decoded anew behind the reference's own token, until all of its tokens are
judged: how many those are then does not depend on how vLLM answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith_serving.verify.parity import TokenView
from tunesmith_serving.verify.reference_generations import ReferencePrompt

# A sound model departs from 32 tokens three or four times. A broken one does at each of them, and
# need not be followed to the end: what it costs is bounded by both.
MAX_RESUMPTIONS: Final = 8
MAX_RESUMED_TOKENS: Final = 32


@dataclass(frozen=True, slots=True)
class Rest:
    """What is given to vLLM, and what the reference went on with."""

    given: list[int]
    expected: list[int]


def rest_of(prompt: ReferencePrompt, *, judged: int) -> Rest:
    """The answer from its token number `judged` on."""
    return Rest(
        given=[*prompt.prompt_ids, *prompt.answer_ids[:judged]],
        expected=prompt.answer_ids[judged : judged + MAX_RESUMED_TOKENS],
    )


def resumed_views(
    prompts: Sequence[ReferencePrompt],
    decoded: Sequence[Sequence[TokenView]],
    *,
    decode: Callable[[Sequence[Rest]], Sequence[Sequence[TokenView]]],
) -> list[list[TokenView]]:
    """The views of the tokens behind those in `decoded`, in their order, for each prompt.

    `decode` has a view of each token up to and with the first that vLLM chooses differently.
    """
    judged = [len(views) for views in decoded]
    resumed: list[list[TokenView]] = [[] for _ in prompts]
    for _ in range(MAX_RESUMPTIONS):
        places = [
            place for place, each in enumerate(prompts) if judged[place] < len(each.answer_ids)
        ]
        if not places:
            break
        rests = [rest_of(prompts[place], judged=judged[place]) for place in places]
        for place, views in zip(places, decode(rests), strict=True):
            resumed[place].extend(views)
            judged[place] += len(views)
    return resumed
