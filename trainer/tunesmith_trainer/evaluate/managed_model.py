"""A managed model answers the held-out prompts: quality and price beside the tuned model's.

Its score stands under the split `reference`. Nothing is gated by it: whether to make or to buy is
for people to decide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from tunesmith_api.endpoint import Endpoint
from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.results import EvaluationResult
from tunesmith_trainer.chat_client import ChatClient, ChatReply, cost_of
from tunesmith_trainer.evaluate.generation_metric import GenerationSuite, generation_result

REFERENCE: Final = "reference"
FIELD: Final = "evaluation.reference.endpoint"
_THOUSAND: Final = 1000


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of prompts and answers."""

    requests: int
    prompt: int
    completion: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, *, prompts: Sequence[str], answers: Sequence[str]
    ) -> "TokenCount":
        """Those that a model of this tokenizer reads and writes."""
        count = partial(_count, tokenizer)
        return cls(requests=len(prompts), prompt=count(prompts), completion=count(answers))

    def per_thousand(self) -> dict[str, JsonValue]:
        """For a thousand requests like these."""
        return {
            "promptTokens": round(_THOUSAND * self.prompt / self.requests),
            "completionTokens": round(_THOUSAND * self.completion / self.requests),
        }


def ask_managed(
    client: ChatClient,
    suite: GenerationSuite,
    *,
    max_tokens: int,
    on_prompt: Callable[[int, int], None],
) -> list[ChatReply]:
    """The managed model's answer to every prompt of the suite.

    Raises:
        StageError: the endpoint refuses, or cannot be reached.
    """
    replies = []
    asked = zip(suite.conversations, suite.tools, strict=True)
    for done, (conversation, tools) in enumerate(asked, start=1):
        replies.append(client.reply(conversation, max_tokens=max_tokens, tools=tools))
        on_prompt(done, len(suite.conversations))
    return replies


def managed_result(
    suite: GenerationSuite, replies: Sequence[ChatReply], *, settings: Bootstrap
) -> EvaluationResult | None:
    """The score of the answers, by the metric that scores base and tuned model."""
    answers = [reply.text.strip() for reply in replies]
    return generation_result(suite, answers, split=REFERENCE, base=None, settings=settings)


def managed_record(
    replies: Sequence[ChatReply], endpoint: Endpoint, *, tuned: TokenCount
) -> dict[str, JsonValue]:
    """Make or buy: what a thousand requests take of either model, and what they cost there.

    What they cost here depends on how well the accelerators are used, so the status of a
    ModelDeployment has it, once it serves.
    """
    bought = TokenCount(
        requests=len(replies),
        prompt=sum(reply.prompt_tokens for reply in replies),
        completion=sum(reply.completion_tokens for reply in replies),
    )
    cost = cost_of(endpoint, prompt_tokens=bought.prompt, completion_tokens=bought.completion)
    return {
        "model": endpoint.model,
        "requests": len(replies),
        "cost": cost,
        "perThousandRequests": {
            "tuned": {**tuned.per_thousand(), "price": None},
            "reference": {
                **bought.per_thousand(),
                "price": None if cost is None else _THOUSAND * cost / len(replies),
            },
        },
    }


def _count(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
