"""Quality after release: how the served engine finds the answers that the version was judged by.

The watch asks for one fingerprint in turn; of each prompt the last answer counts. A mean that grows
says that the model which answers is not as good any more as the one that was published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from tunesmith_engine.deployment.replica_report import BiasEvidence

LABELS: Final = ("model", "version")


@dataclass(frozen=True, slots=True)
class ProbedPrompt:
    """One prompt: means over the tokens of its known answer, in nats.

    `difference` is that of log-probabilities, without a sign. `loss` is by how much the negative
    log-likelihood has grown since `verify` measured it.
    """

    difference: float
    loss: float
    num_tokens: int


class ProbeMetrics:
    """Gauges; there are none before the engine has answered."""

    def __init__(self, *, model: str, version: str, registry: CollectorRegistry) -> None:
        self._labels = (model, version)
        self._difference = Gauge(
            "tunesmith_probe_logprob_difference_nats",
            "Mean difference of the log-probabilities of known answers from the published ones.",
            LABELS,
            registry=registry,
        )
        self._loss = Gauge(
            "tunesmith_probe_quality_loss_nats",
            "Growth of the mean negative log-likelihood of known answers since the publication.",
            LABELS,
            registry=registry,
        )
        self._gap = Gauge(
            "tunesmith_probe_bias_gap_nats",
            "Mean gap between the sides of the pairs of a fairness suite, nats a token.",
            (*LABELS, "suite"),
            registry=registry,
        )
        self._growth = Gauge(
            "tunesmith_probe_bias_growth_low_nats",
            "Growth of that gap since the publication, the lower end of its interval.",
            (*LABELS, "suite"),
            registry=registry,
        )
        self._prompts: dict[int, ProbedPrompt] = {}

    def note(self, prompts: Mapping[int, ProbedPrompt]) -> None:
        """Prompts, by their place among the fingerprints, were answered."""
        self._prompts |= prompts
        known = tuple(self._prompts.values())
        self._difference.labels(*self._labels).set(_mean(known, [p.difference for p in known]))
        self._loss.labels(*self._labels).set(mean_loss(known))

    def note_bias(self, suites: Sequence[BiasEvidence]) -> None:
        """What the pairs of each suite say."""
        for one in suites:
            self._gap.labels(*self._labels, one.suite).set(one.nats)
            self._growth.labels(*self._labels, one.suite).set(one.low_nats)


def mean_loss(prompts: Sequence[ProbedPrompt]) -> float:
    """By how many nats a token the answers to `prompts` have become less likely."""
    return _mean(prompts, [prompt.loss for prompt in prompts])


def _mean(prompts: Sequence[ProbedPrompt], values: Sequence[float]) -> float:
    """Of the tokens of all answers."""
    num_tokens = sum(prompt.num_tokens for prompt in prompts)
    pairs = zip(prompts, values, strict=True)
    return sum(value * prompt.num_tokens for prompt, value in pairs) / num_tokens
