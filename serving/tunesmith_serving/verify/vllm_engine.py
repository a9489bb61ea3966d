"""Asks vLLM: loads a model with its serving settings and turns vLLM's answers into records.

Everything of vLLM that verify touches is in this module.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_serving.plugin import computes_two_products, is_exact
from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.verify.numerics import Kernels
from tunesmith_serving.verify.parity import Answer, TokenView
from tunesmith_serving.verify.reference_generations import ReferencePrompt
from tunesmith_serving.verify.resuming import Rest, resumed_views

# vLLM gives at most 20 candidates per token unless told otherwise.
_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """vLLM's answer to one prompt: for the judge, and its tokens for people."""

    answer: Answer
    token_ids: list[int]


class Engine:
    """A model loaded in vLLM, in this process."""

    def __init__(self, folder: Path, *, settings: ServingSettings) -> None:
        """Load the model.

        vLLM reads its environment variables while it is imported, so they are set before.
        """
        os.environ.update(settings.environment())
        from vllm import LLM

        self._llm = LLM(model=str(folder), disable_log_stats=True, **settings.engine_arguments())
        self._dtype = settings.dtype
        self._tokenizer = self._llm.get_tokenizer()

    def ask(self, prompts: Sequence[ReferencePrompt]) -> list[Asked]:
        """Both ways through every prompt: forced along the reference's answer, and by itself."""
        forced = self._force([[*each.prompt_ids, *each.answer_ids] for each in prompts])
        whole = [Rest(given=each.prompt_ids, expected=each.answer_ids) for each in prompts]
        outputs = self._decode(whole)
        decoded = _views(outputs, whole)
        resumed = resumed_views(prompts, decoded, decode=self._decode_views)
        return [
            Asked(
                answer=Answer(
                    reference_logprobs=prompt.logprobs,
                    forced=[
                        _view(candidates, token)
                        for candidates, token in zip(
                            told[len(prompt.prompt_ids) :], prompt.answer_ids, strict=True
                        )
                    ],
                    decoded=decoded[place],
                    resumed=resumed[place],
                ),
                token_ids=list(outputs[place].token_ids),
            )
            for place, (prompt, told) in enumerate(zip(prompts, forced, strict=True))
        ]

    def text(self, token_ids: Sequence[int]) -> str:
        """Tokens as people read them."""
        return str(self._tokenizer.decode(list(token_ids)))

    def kernels(self) -> Kernels:
        """What the model runs on."""
        import torch
        from vllm.v1.attention.backends import cpu_attn

        config = self._llm.llm_engine.vllm_config
        return Kernels(
            attention=cpu_attn._get_attn_isa(  # noqa: SLF001 - nothing public tells the choice
                getattr(torch, self._dtype),
                config.cache_config.block_size,
                config.model_config.get_head_size(),
            ),
            two_products=computes_two_products(),
            exact_products=is_exact(),
        )

    def _force(self, rows: Sequence[Sequence[int]]) -> list[Any]:
        parameters = _parameters(max_tokens=1, prompt_logprobs=1)
        return [each.prompt_logprobs for each in self._generate(rows, parameters)]

    def _decode(self, rests: Sequence[Rest]) -> list[Any]:
        """One answer for each, exactly as long as the reference's."""
        parameters = [
            _parameters(max_tokens=len(each.expected), logprobs=_CANDIDATES) for each in rests
        ]
        outputs = self._generate([each.given for each in rests], parameters)
        return [each.outputs[0] for each in outputs]

    def _decode_views(self, rests: Sequence[Rest]) -> list[list[TokenView]]:
        return _views(self._decode(rests), rests)

    def _generate(self, rows: Sequence[Sequence[int]], parameters: Any) -> list[Any]:
        inputs = [{"prompt_token_ids": list(row)} for row in rows]
        return list(self._llm.generate(inputs, parameters, use_tqdm=False))


def _parameters(**given: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(temperature=0, ignore_eos=True, detokenize=False, **given)


def _views(outputs: Sequence[Any], rests: Sequence[Rest]) -> list[list[TokenView]]:
    return [
        _until_different(output.logprobs, output.token_ids, rest.expected)
        for output, rest in zip(outputs, rests, strict=True)
    ]


def _until_different(
    candidates: Sequence[Mapping[int, Any]], chosen: Sequence[int], expected: Sequence[int]
) -> list[TokenView]:
    views: list[TokenView] = []
    for each, choice, token in zip(candidates, chosen, expected, strict=True):
        views.append(_view(each, token))
        if choice != token:
            break
    return views


def _view(candidates: Mapping[int, Any], token: int) -> TokenView:
    """vLLM's view of `token` among its candidates.

    A token that is not among them lies below the last of them: its log-probability is then the
    highest it can have, and its margin without bound.
    """
    logprobs = [each.logprob for each in candidates.values()]
    if token not in candidates:
        return TokenView(logprob=min(logprobs), margin=math.inf)
    found = candidates[token].logprob
    return TokenView(logprob=found, margin=max(logprobs) - found)
