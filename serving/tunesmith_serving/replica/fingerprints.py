"""`fingerprints.json` of a version against what the engine answers now: records in, verdict out.

The engine is handed a prompt with its known answer, generates one token, and gives the
log-probabilities of the answer's tokens, as `verify` had them from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_api.finetunejob.serving import Verification
from tunesmith_serving.tap.probe_metrics import ProbedPrompt
from tunesmith_serving.verify.parity import LARGEST_DIFFERENCE, PROMPT_ALLOWANCE

# Nats. Against itself on another processor or kernel a W8A8 model differs by 0.08 to 0.17 in the
# mean and by 0.55 in its worst prompt, weights disturbed by a tenth by 2.2 in theirs (docs/log.md):
# twice what verify allows in the mean, and what it allows a single prompt.
MAX_MEAN_DIFFERENCE: Final = 2 * float(Verification().max_logprob_difference)
MAX_PROMPT_DIFFERENCE: Final = PROMPT_ALLOWANCE * float(Verification().max_logprob_difference)
# Between two sound engines, in times of what vLLM and transformers differed by at the verification:
# bfloat16 was 0.025 nats off then, and weights of four bits by 0.8 (docs/log.md). Never less than
# `_LEAST`: float32 is 4e-6 off on one processor, and nobody has measured it on all of them.
NOISE_ALLOWANCE: Final = 4.0
_LEAST: Final = 0.05


class Fingerprint(BaseModel):
    """A prompt, its answer, and the log-probabilities (nats) of the answer's tokens."""

    model_config = ConfigDict(frozen=True)

    prompt_ids: list[int] = Field(alias="promptIds", min_length=1)
    answer_ids: list[int] = Field(alias="answerIds", min_length=1)
    logprobs: list[float] = Field(min_length=1)

    @property
    def num_tokens(self) -> int:
        """What it takes to ask for it: the prompt, the answer, and the one token generated."""
        return len(self.prompt_ids) + len(self.answer_ids) + 1


class Fingerprints(BaseModel):
    """The file, as far as it is needed here."""

    model_config = ConfigDict(frozen=True)

    probes: list[Fingerprint] = Field(min_length=1)
    noise: float | None = Field(None, ge=0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """By how much the engine of a version may differ: in the mean, and in one prompt, nats."""

    mean: float = MAX_MEAN_DIFFERENCE
    prompt: float = MAX_PROMPT_DIFFERENCE

    @property
    def noise(self) -> float:
        """What two sound engines may well differ by."""
        return self.mean / NOISE_ALLOWANCE

    @classmethod
    def of_noise(cls, noise: float | None) -> "Bounds":
        """Those of a version whose two engines differed by `noise` nats; None: nobody knows."""
        if noise is None:
            return cls()
        mean = min(max(NOISE_ALLOWANCE * noise, _LEAST), MAX_MEAN_DIFFERENCE)
        return cls(mean=mean, prompt=mean * MAX_PROMPT_DIFFERENCE / MAX_MEAN_DIFFERENCE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much an engine differs: in the mean of all tokens, and in its worst prompt, nats.

    `prompts` are the mean of each and the tokens of its answer.
    """

    prompts: tuple[tuple[float, int], ...]
    bounds: Bounds = Bounds()

    @property
    def num_prompts(self) -> int:
        return len(self.prompts)

    @property
    def mean(self) -> float:
        num_tokens = sum(tokens for _, tokens in self.prompts)
        return sum(mean * tokens for mean, tokens in self.prompts) / num_tokens

    @property
    def worst(self) -> float:
        return max(mean for mean, _ in self.prompts)

    @property
    def holds(self) -> bool:
        """Whether it may be the same model."""
        return self.mean <= self.bounds.mean and self.worst <= self.bounds.prompt

    def __str__(self) -> str:
        return (
            f"log-probabilities of {self.num_prompts} known answers differ by {self.mean:.3f} nats "
            f"in the mean (at most {self.bounds.mean:.3g}) and by {self.worst:.3f} in the worst "
            f"(at most {self.bounds.prompt:.3g})"
        )


def read_fingerprints(path: Path, *, max_model_length: int | None) -> list[Fingerprint]:
    """Those fingerprints of a version that fit into `max_model_length` tokens.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else, or none fits.
    """
    probes = Fingerprints.model_validate_json(path.read_text(encoding="utf-8")).probes
    fitting = [
        probe
        for probe in probes
        if max_model_length is None or probe.num_tokens <= max_model_length
    ]
    if not fitting:
        raise ValueError(f"none of {len(probes)} prompts fits into {max_model_length} tokens")
    return fitting


def read_bounds(path: Path) -> Bounds:
    """What the version's own verification allows; versions of earlier releases have no noise.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    noise = Fingerprints.model_validate_json(path.read_text(encoding="utf-8")).noise
    return Bounds.of_noise(noise)


def question(probes: Sequence[Fingerprint], *, model: str) -> dict[str, Any]:
    """The body of a request to /v1/completions that has all of `probes` judged."""
    return {
        "model": model,
        "prompt": [[*probe.prompt_ids, *probe.answer_ids] for probe in probes],
        "max_tokens": 1,
        "temperature": 0,
        # Of the prompt's own tokens alone. NB: such a request takes nothing from the prefix cache.
        "prompt_logprobs": 0,
    }


def compare(
    probes: Sequence[Fingerprint], answer: dict[str, Any], *, bounds: Bounds = Bounds()
) -> Comparison:
    """Hold the engine's answer to `question` against the fingerprints.

    Raises:
        LookupError: it lacks what was asked for.
        TypeError: so it does.
    """
    by_index = {choice["index"]: choice["prompt_logprobs"] for choice in answer["choices"]}
    differences = [
        _differences(probe, by_index[index][len(probe.prompt_ids) :])
        for index, probe in enumerate(probes)
    ]
    means = tuple((sum(prompt) / len(prompt), len(prompt)) for prompt in differences)
    return Comparison(means, bounds)


def probed(probes: Sequence[Fingerprint], answer: dict[str, Any]) -> list[ProbedPrompt]:
    """What the engine's answer to `question` says of the quality, prompt by prompt.

    Raises:
        LookupError: it lacks what was asked for.
        TypeError: so it does.
    """
    by_index = {choice["index"]: choice["prompt_logprobs"] for choice in answer["choices"]}
    prompts = []
    for index, probe in enumerate(probes):
        views = by_index[index][len(probe.prompt_ids) :]
        losses = _losses(probe, views)
        prompts.append(
            ProbedPrompt(
                difference=fmean(_differences(probe, views)),
                loss=fmean(losses),
                num_tokens=len(losses),
            )
        )
    return prompts


def _losses(probe: Fingerprint, views: Sequence[dict[str, Any]]) -> list[float]:
    signed = (
        known - view[str(token)]["logprob"]
        for token, known, view in zip(probe.answer_ids, probe.logprobs, views, strict=True)
    )
    return [max(_clipped(loss), -LARGEST_DIFFERENCE) for loss in signed]


def _differences(probe: Fingerprint, views: Sequence[dict[str, Any]]) -> list[float]:
    return [
        _clipped(abs(view[str(token)]["logprob"] - known))
        for token, known, view in zip(probe.answer_ids, probe.logprobs, views, strict=True)
    ]


def _clipped(nats: float) -> float:
    # NB: NaN too, which every comparison would let pass.
    return min(nats, LARGEST_DIFFERENCE) if math.isfinite(nats) else LARGEST_DIFFERENCE
