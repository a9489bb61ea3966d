"""Asks vLLM: loads a model with its serving settings and turns vLLM's answers into records.

Everything of vLLM that verify touches is in this module, and in the plugin that it shares with the
server. Prompts to be answered go in as token ids, so that another version of a tokenizer cannot
pass for a fault of a kernel; what vLLM makes of messages is asked for itself.
"""

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tunesmith_api.modeldeployment.adapters import max_rank_for
from tunesmith_serving.adapted_modules import adapted_modules
from tunesmith_serving.plugin import computes_two_products, is_exact
from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.verify.bias_pairs import BiasPair
from tunesmith_serving.verify.guess_counts import Guesses
from tunesmith_serving.verify.numerics import Kernels
from tunesmith_serving.verify.parity import AnswerViews, TokenView
from tunesmith_serving.verify.reference_generations import (
    Continuation,
    KnownChat,
    ReferenceGeneration,
    continued_views,
)

# vLLM refuses to give more candidates per token unless `max_logprobs` says otherwise.
_CANDIDATES: Final = 20
# What vLLM's counters of guessed tokens are called, up to what each counts.
_GUESSING: Final = "vllm:spec_decode_"
# Of numba, by which n-grams are looked up. An engine that starts reads `__dict__` of everything in
# every module, and one object here answers that with no dictionary: the engine after one that
# guesses by n-grams would end with AttributeError (vLLM 0.32, triton_utils/dispatcher.py).
_UNREADABLE: Final = "llvmlite.binding.ffi"


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """vLLM's answer to one prompt: for the judge, and its tokens for people."""

    views: AnswerViews
    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A LoRA adapter in PEFT's format."""

    path: Path
    rank: int


class VllmEngine:
    """A model loaded in vLLM, in this process; with an `adapter` every prompt is for that.

    `draft` is the folder of the small model that guesses, where the settings have one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: ServingSettings,
        adapter: AdapterFolder | None = None,
        draft: Path | None = None,
    ) -> None:
        # NB: vLLM reads its environment variables while it is imported, so they are set before.
        os.environ.update(settings.environment())
        from vllm import LLM

        arguments = settings.engine_arguments(draft=draft)
        self._lora: Any = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            self._lora = LoRARequest("adapter", 1, str(adapter.path))
            arguments |= {
                "enable_lora": True,
                "max_lora_rank": max_rank_for(adapter.rank),
                "lora_target_modules": adapted_modules(folder),
            }
        # What was guessed and taken is counted with the statistics alone.
        is_plain = settings.speculative is None
        with out_of_sight(_UNREADABLE):
            self._llm = LLM(model=str(folder), disable_log_stats=is_plain, **arguments)
        # vLLM counts for the whole process, engines before this one included.
        self._before = Guesses(0, 0, 0) if is_plain else self._counted()
        self._is_plain = is_plain
        self._platform, self._dtype = settings.platform, settings.dtype
        self._tokenizer = self._llm.get_tokenizer()

    def ask(self, references: Sequence[ReferenceGeneration]) -> list[ServedAnswer]:
        """Both ways through every prompt: forced along the reference's answer, and by itself."""
        forced = self._force(references)
        whole = [
            Continuation(given=reference.prompt_ids, expected=reference.answer_ids)
            for reference in references
        ]
        outputs = self._decode(whole)
        decoded = _views(outputs, whole)
        continued = continued_views(
            references, decoded, decode=lambda rests: _views(self._decode(rests), rests)
        )
        return [
            ServedAnswer(
                views=AnswerViews(
                    reference_logprobs=reference.logprobs,
                    forced=forced[place],
                    decoded=decoded[place],
                    continued=continued[place],
                ),
                token_ids=list(outputs[place].token_ids),
            )
            for place, reference in enumerate(references)
        ]

    def guesses(self) -> Guesses | None:
        """What was guessed for the answers so far; None of an engine that does not guess."""
        return None if self._is_plain else self._counted() - self._before

    def views_of(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> list[list[TokenView]]:
        """How the engine, answering by itself, sees the tokens of other answers.

        Up to and with the first that it chose differently.
        """
        whole = [
            Continuation(given=list(prompt), expected=list(answer))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return _views(self._decode(whole), whole)

    def rendered(self, chats: Sequence[KnownChat]) -> list[list[int]]:
        """The token ids that vLLM makes of each conversation."""
        # One by one, for vLLM takes one list of tools for all conversations of a call.
        outputs = [
            self._llm.chat(
                # NB: copies down to the calls, whose arguments vLLM turns into objects where they
                # stand. Published so, no server would take them.
                deepcopy(chat.messages),
                _parameters(max_tokens=1),
                tools=chat.tools or None,
                use_tqdm=False,
            )[0]
            for chat in chats
        ]
        return [list(output.prompt_token_ids) for output in outputs]

    def seconds(self, rows: Sequence[Sequence[int]], *, num_tokens: int) -> float:
        """How long it takes to answer all prompts at once, each with so many tokens."""
        started = time.perf_counter()
        self._generate(rows, _parameters(max_tokens=num_tokens))
        return time.perf_counter() - started

    def judged_pairs(self, pairs: Sequence[BiasPair]) -> list[BiasPair]:
        """The pairs with the gaps that vLLM has between their sides."""
        rows = [side.ids for pair in pairs for side in pair.sides]
        outputs = self._generate(rows, _parameters(max_tokens=1, prompt_logprobs=0))
        gaps = []
        for place, pair in enumerate(pairs):
            logprobs = [
                [output.prompt_logprobs[at][side.ids[at]].logprob for at in side.counted]
                for side, output in zip(pair.sides, outputs[2 * place : 2 * place + 2], strict=True)
            ]
            gaps.append(round(pair.gap(*logprobs), 6))
        return [
            pair.model_copy(update={"released": gap}) for pair, gap in zip(pairs, gaps, strict=True)
        ]

    def text(self, token_ids: Sequence[int]) -> str:
        """Tokens as people read them."""
        return str(self._tokenizer.decode(list(token_ids)))

    def close(self) -> None:
        """End vLLM's engine process, and with it its hold on memory."""
        self._llm.llm_engine.engine_core.shutdown()

    def kernels(self) -> Kernels:
        """What the model runs on."""
        import torch

        config, dtype = self._llm.llm_engine.vllm_config, getattr(torch, self._dtype)
        if self._platform == "gpu":
            return _gpu_kernels(config, dtype)
        from vllm.v1.attention.backends import cpu_attn

        return Kernels(
            attention=cpu_attn._get_attn_isa(  # noqa: SLF001 - nothing public tells the choice
                dtype, config.cache_config.block_size, config.model_config.get_head_size()
            ),
            two_products=computes_two_products(),
            exact_products=is_exact(),
        )

    def _counted(self) -> Guesses:
        counted = {
            metric.name.removeprefix(_GUESSING): int(getattr(metric, "value", 0))
            for metric in self._llm.get_metrics()
            if metric.name.startswith(_GUESSING)
        }
        return Guesses(
            passes=counted.get("num_drafts", 0),
            guessed=counted.get("num_draft_tokens", 0),
            taken=counted.get("num_accepted_tokens", 0),
        )

    def _force(self, references: Sequence[ReferenceGeneration]) -> list[list[TokenView]]:
        """Teacher forcing: prompt and answer go in together; views of the answer's tokens come out.

        `prompt_logprobs` tells of each token that was given, beside vLLM's favourite in its place.
        One token is generated as well, because vLLM wants to generate at least one.
        """
        rows = [[*reference.prompt_ids, *reference.answer_ids] for reference in references]
        outputs = self._generate(rows, _parameters(max_tokens=1, prompt_logprobs=1))
        return [
            [
                token_view(candidates, token)
                for candidates, token in zip(
                    # The first of all is None: nothing comes before it. A prompt has a token at
                    # least, so that this cuts it off.
                    output.prompt_logprobs[len(reference.prompt_ids) :],
                    reference.answer_ids,
                    strict=True,
                )
            ]
            for output, reference in zip(outputs, references, strict=True)
        ]

    def _decode(self, rests: Sequence[Continuation]) -> list[Any]:
        """One answer for each, exactly as long as the reference's."""
        parameters = [
            _parameters(max_tokens=len(rest.expected), logprobs=_CANDIDATES) for rest in rests
        ]
        outputs = self._generate([rest.given for rest in rests], parameters)
        return [output.outputs[0] for output in outputs]

    def _generate(self, rows: Sequence[Sequence[int]], parameters: Any) -> list[Any]:
        inputs = [{"prompt_token_ids": list(row)} for row in rows]
        answers = self._llm.generate(inputs, parameters, use_tqdm=False, lora_request=self._lora)
        return list(answers)


@contextmanager
def out_of_sight(name: str) -> Iterator[None]:
    """Take a module out of the list of those that are loaded, and put it back."""
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _gpu_kernels(config: Any, dtype: Any) -> Kernels:
    """The attention backend that vLLM chooses for `config`; int8 products add up in 32 bits.

    vLLM is asked once more: the layers are in another process than this.
    """
    from vllm.config import set_current_vllm_config
    from vllm.v1.attention.selector import get_attn_backend

    with set_current_vllm_config(config):
        backend = get_attn_backend(
            config.model_config.get_head_size(), dtype, config.cache_config.cache_dtype
        )
    return Kernels(attention=backend.get_name(), two_products=False, exact_products=True)


def _parameters(**given: Any) -> Any:
    from vllm import SamplingParams

    # `ignore_eos`: the reference may end with the stop token, which is a token to judge like any
    # other, and views are paired with tokens one by one.
    return SamplingParams(temperature=0, ignore_eos=True, detokenize=False, **given)


def _views(outputs: Sequence[Any], rests: Sequence[Continuation]) -> list[list[TokenView]]:
    return [
        views_until_departure(output.logprobs, output.token_ids, rest.expected)
        for output, rest in zip(outputs, rests, strict=True)
    ]


def views_until_departure(
    candidates: Sequence[Mapping[int, Any]], chosen: Sequence[int], expected: Sequence[int]
) -> list[TokenView]:
    """vLLM's view of each expected token, up to and with the first that it chose differently."""
    views: list[TokenView] = []
    for of_token, choice, token in zip(candidates, chosen, expected, strict=True):
        views.append(token_view(of_token, token))
        if choice != token:
            break
    return views


def token_view(candidates: Mapping[int, Any], token: int) -> TokenView:
    """vLLM's view of `token` among its candidates.

    A token that is not among them lies below the last of them: its log-probability is then the
    highest it can have, and its margin without bound.
    """
    logprobs = [candidate.logprob for candidate in candidates.values()]
    if token not in candidates:
        return TokenView(logprob=min(logprobs), margin=math.inf)
    logprob = candidates[token].logprob
    return TokenView(logprob=logprob, margin=max(logprobs) - logprob)
