"""What verify leaves behind: facts, `parity.json` and `fingerprints.json`.

`parity-answers.json` shows people every answer, and is not published; `parity.json` its numbers;
`fingerprints.json` lets a monitor notice that a replica serves something else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import zip_longest
from typing import Any, Final

from pydantic import JsonValue

from tunesmith_serving.platforms import DISTRIBUTIONS
from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.verify.bias_pairs import BiasPair
from tunesmith_serving.verify.guess_counts import Guesses
from tunesmith_serving.verify.numerics import Kernels, rounds_activations, tie_for
from tunesmith_serving.verify.parity import CONFIDENCE, Comparison, ParityVerdict
from tunesmith_serving.verify.reference_generations import KnownChat, ReferenceGeneration
from tunesmith_serving.verify.speed import Rates
from tunesmith_serving.verify.vllm_engine import ServedAnswer

NUM_FINGERPRINTS: Final = 20
# Of them, so many at most are prompts of the job's own rows.
NUM_HELD_OUT: Final = 10
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerTexts:
    """A prompt, the reference's answer and vLLM's, as people read them."""

    prompt: str
    reference: str
    served: str


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One loading of the model, and what it was asked; `config` is the model's config.json.

    `rendered` are the token ids that vLLM made of each of `chats`, `rates` how fast it answered,
    where that was asked, and `pairs` have its gaps. `guesses` are the tokens that were guessed for
    the answers, where the settings say so.
    """

    settings: ServingSettings
    references: Sequence[ReferenceGeneration]
    answers: Sequence[ServedAnswer]
    texts: Sequence[AnswerTexts]
    kernels: Kernels
    config: Mapping[str, Any]
    load_seconds: float
    chats: Sequence[KnownChat] = ()
    rendered: Sequence[Sequence[int]] = ()
    rates: Rates | None = None
    pairs: Sequence[BiasPair] = ()
    guesses: Guesses | None = None

    @property
    def vllm_version(self) -> str:
        """Of the build that answered."""
        return version(DISTRIBUTIONS[self.settings.platform])

    @property
    def tie(self) -> float:
        """Nats within which two tokens are equal."""
        return tie_for(self.config, dtype=self.settings.dtype)

    @property
    def faults(self) -> list[str]:
        """Kernels in use that are known to be wrong, and a chat template that vLLM reads otherwise.

        Neither shows in the answers: prompts are token ids.
        """
        faults = self.kernels.faults(rounds_activations=rounds_activations(self.config))
        num_others = sum(
            list(ids) != chat.prompt_ids
            for chat, ids in zip(self.chats, self.rendered, strict=True)
        )
        if num_others:
            faults.append(
                f"vLLM makes other tokens than transformers of {num_others} of {len(self.chats)} "
                "conversations: a chat would be answered as nothing that the model was trained on. "
                "Compare chat_template.jinja and tokenizer_config.json with the base model's."
            )
        return faults


def facts_of(verdict: ParityVerdict, *, run: EngineRun) -> dict[str, JsonValue]:
    """The facts of the stage's result; `settings` is the content of `serving.json`."""
    return {
        "agreement": round(verdict.worse.agreement, 6),
        "agreementInterval": _interval(verdict.worse),
        "meanLogprobDifference": round(verdict.total.mean_difference, 6),
        "numPrompts": len(verdict.prompts),
        "numTokens": verdict.worse.num_tokens,
        "numAgreed": verdict.worse.num_agreed,
        "kernel": run.kernels.name,
        "enforceEager": run.settings.enforce_eager,
        "vllmVersion": run.vllm_version,
        "loadSeconds": run.load_seconds,
        "settings": run.settings.model_dump(mode="json", by_alias=True, exclude_none=True),
        "resolved": {"serving.maxModelLength": run.settings.max_model_length},
    }


def answers_record(verdict: ParityVerdict, *, run: EngineRun) -> Json:
    """The content of `parity-answers.json`: that of `parity.json`, and the words of each prompt."""
    record = parity_record(verdict, run=run)
    prompts = zip(record["prompts"], run.texts, strict=True)
    return {**record, "prompts": [{**asdict(texts), **numbers} for numbers, texts in prompts]}


def parity_record(verdict: ParityVerdict, *, run: EngineRun) -> Json:
    """The content of `parity.json`; without words, for they are of rows, and it is published."""
    return {
        "holds": verdict.holds and not run.faults,
        "faults": run.faults,
        "agreement": round(verdict.worse.agreement, 6),
        "agreementInterval": _interval(verdict.worse),
        "confidence": CONFIDENCE,
        "minAgreement": verdict.min_agreement,
        "meanLogprobDifference": round(verdict.total.mean_difference, 6),
        "maxLogprobDifference": verdict.max_difference,
        "tie": run.tie,
        "brokenPrompts": verdict.broken,
        "forced": _comparison(verdict.total.forced),
        "decoded": _comparison(verdict.total.decoded),
        "kernel": run.kernels.name,
        "vllmVersion": run.vllm_version,
        "settings": run.settings.model_dump(mode="json", by_alias=True, exclude_none=True),
        "prompts": [
            {
                "agreement": round(parity.agreement, 6),
                "meanLogprobDifference": round(parity.mean_difference, 6),
                "margin": round(parity.margin, 6),
                "decodedTokens": parity.decoded.num_tokens,
                "numTokens": parity.forced.num_tokens,
            }
            for parity in verdict.prompts
        ],
    }


def fingerprints_record(verdict: ParityVerdict, *, run: EngineRun) -> Json:
    """The content of `fingerprints.json`.

    Up to 20 prompts with vLLM's own log-probabilities (nats) of the answer's tokens: a replica that
    gives others does not serve this model. vLLM's, not the reference's: a monitor then compares a
    number format and a kernel with themselves. `noise` is by how much the two differ, in nats: what
    another sound engine may. `chats` are conversations with the token ids that vLLM made of them
    when they were verified, and `biasPairs` those of the fairness suites with its gaps.
    """
    pairs = list(zip(run.references, run.answers, strict=True))
    held_out = [pair for pair in pairs if pair[0].kind == "heldOut"]
    fixed = [pair for pair in pairs if pair[0].kind != "heldOut"]
    # The shortest: each of them is asked for every few minutes, and they are to cost little.
    held_out.sort(key=lambda pair: len(pair[0]))
    # The questions that every model is asked, and those of the evaluation: half and half, in turn,
    # unless there are too few of one kind.
    num_held_out = min(len(held_out), max(NUM_HELD_OUT, NUM_FINGERPRINTS - len(fixed)))
    chosen = _in_turn(fixed[: NUM_FINGERPRINTS - num_held_out], held_out[:num_held_out])
    return {
        "vllmVersion": run.vllm_version,
        "dtype": run.settings.dtype,
        "noise": round(verdict.total.forced.mean_difference, 6),
        "probes": [
            {
                "promptIds": reference.prompt_ids,
                "answerIds": reference.answer_ids,
                "logprobs": [round(view.logprob, 6) for view in answer.views.forced],
            }
            for reference, answer in chosen
        ],
        "chats": [
            chat.model_dump(mode="json", by_alias=True, exclude_defaults=True) for chat in run.chats
        ],
        "biasPairs": [pair.model_dump(mode="json", by_alias=True) for pair in run.pairs],
    }


def _in_turn(
    first: Sequence[tuple[ReferenceGeneration, ServedAnswer]],
    second: Sequence[tuple[ReferenceGeneration, ServedAnswer]],
) -> list[tuple[ReferenceGeneration, ServedAnswer]]:
    pairs = zip_longest(first, second)
    return [one for pair in pairs for one in pair if one is not None]


def _comparison(compared: Comparison) -> Json:
    return {
        "numTokens": compared.num_tokens,
        "numAgreed": compared.num_agreed,
        "agreement": round(compared.agreement, 6),
        "agreementInterval": _interval(compared),
        "meanLogprobDifference": round(compared.mean_difference, 6),
    }


def _interval(compared: Comparison) -> list[JsonValue]:
    return [round(end, 6) for end in compared.interval]
