"""Quality after release: a running mean over the prompts, exported by replica."""

import pytest
from prometheus_client import CollectorRegistry

from tunesmith_serving.replica.fingerprints import Fingerprint, compare, probed
from tunesmith_serving.tap.probe_metrics import ProbedPrompt, ProbeMetrics

LABELS = {"model": "helpdesk", "version": "v1"}
PROBES = [
    Fingerprint(promptIds=[1, 2], answerIds=[3, 4], logprobs=[-1.0, -2.0]),
    Fingerprint(promptIds=[5], answerIds=[6], logprobs=[-0.5]),
]


def an_answer(*logprobs: list[float]) -> dict[str, object]:
    choices = []
    for index, (probe, values) in enumerate(zip(PROBES, logprobs, strict=True)):
        views: list[object] = [None] * len(probe.prompt_ids)
        pairs = zip(probe.answer_ids, values, strict=True)
        views += [{str(token): {"logprob": value}} for token, value in pairs]
        choices.append({"index": index, "prompt_logprobs": views})
    return {"choices": choices}


def exported(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    names = ("tunesmith_probe_quality_loss_nats", "tunesmith_probe_logprob_difference_nats")
    loss, difference = (registry.get_sample_value(name, LABELS) for name in names)
    return loss, difference


def test_a_loss_has_a_sign_and_a_difference_has_none() -> None:
    first, second = probed(PROBES, an_answer([-1.5, -1.5], [-1.0]))

    assert (first.loss, first.difference, first.num_tokens) == (0.0, 0.5, 2)
    assert (second.loss, second.difference) == (0.5, 0.5)


def test_it_differs_as_the_fingerprints_do() -> None:
    answer = an_answer([-1.25, -2.5], [-0.25])

    seen = [(prompt.difference, prompt.num_tokens) for prompt in probed(PROBES, answer)]

    assert tuple(seen) == compare(PROBES, answer).prompts


@pytest.mark.parametrize("broken", [float("nan"), float("-inf")])
def test_no_number_counts_as_the_worst_one(broken: float) -> None:
    (prompt, _) = probed(PROBES, an_answer([broken, -2.0], [-0.5]))

    assert prompt.loss > 1.0


def test_the_last_answer_of_each_prompt_counts_by_its_tokens() -> None:
    registry = CollectorRegistry()
    metrics = ProbeMetrics(model="helpdesk", version="v1", registry=registry)
    assert exported(registry) == (None, None)

    metrics.note({0: ProbedPrompt(0.9, 0.9, 3), 1: ProbedPrompt(0.1, -0.1, 1)})
    metrics.note({0: ProbedPrompt(0.2, 0.1, 3)})

    assert list(exported(registry)) == pytest.approx([0.05, 0.175])
