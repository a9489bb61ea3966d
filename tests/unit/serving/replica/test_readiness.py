"""Ready means: right answers, progress, and nobody drains."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tunesmith_engine.deployment.replica_report import ReadyReason
from tunesmith_serving.replica.fingerprints import (
    Bounds,
    Comparison,
    Fingerprint,
    compare,
    question,
    read_bounds,
    read_fingerprints,
)
from tunesmith_serving.replica.readiness import Evidence, Heartbeat, Readiness, Verdict
from tunesmith_serving.tap.probe_metrics import ProbedPrompt

PROVEN = Verdict(ReadyReason.READY, "as known")
LONG = Fingerprint(promptIds=[1, 2], answerIds=[3, 4, 5], logprobs=[-1.0, -2.0, -3.0])
SHORT = Fingerprint(promptIds=[6], answerIds=[7], logprobs=[-0.5])


def readiness(proof: Verdict = PROVEN) -> Readiness:
    return Readiness(120.0, Heartbeat(), proof)


def answer(*logprobs: list[float]) -> dict[str, Any]:
    """Of `LONG` and `SHORT`, what the engine gives to the tokens of their answers."""
    probes = (LONG, SHORT)
    return {
        "choices": [
            {
                "index": index,
                "prompt_logprobs": [
                    *([None] * len(probe.prompt_ids)),
                    *(
                        {str(token): {"logprob": value}}
                        for token, value in zip(probe.answer_ids, values, strict=True)
                    ),
                ],
            }
            # In any order.
            for index, (probe, values) in reversed(
                list(enumerate(zip(probes, logprobs, strict=True)))
            )
        ]
    }


def test_nobody_is_ready_who_was_not_asked() -> None:
    assert Readiness(120.0, Heartbeat()).verdict(0.0).reason is ReadyReason.STARTING


def test_requests_without_a_token_mean_that_the_engine_hangs() -> None:
    replica = readiness()
    replica.heartbeat.begin(0.0)

    assert replica.verdict(120.0).is_ready
    assert replica.verdict(121.0).reason is ReadyReason.NO_PROGRESS
    replica.heartbeat.beat(122.0)
    assert replica.verdict(123.0).is_ready


def test_an_idle_engine_is_silent_and_well() -> None:
    replica = readiness()
    replica.heartbeat.begin(0.0)
    replica.heartbeat.beat(1.0)
    replica.heartbeat.end()

    assert replica.verdict(10_000.0).is_ready
    # The next request starts the clock anew.
    replica.heartbeat.begin(10_000.0)
    assert replica.verdict(10_060.0).is_ready


def test_who_drains_is_not_ready_whatever_it_answers() -> None:
    replica = readiness()
    replica.is_draining = True

    assert replica.verdict(0.0).reason is ReadyReason.DRAINING


def test_all_fingerprints_are_asked_for_in_one_request() -> None:
    body = question([LONG, SHORT], model="helpdesk")

    assert body["prompt"] == [[1, 2, 3, 4, 5], [6, 7]]
    assert (body["max_tokens"], body["prompt_logprobs"]) == (1, 0)


def test_the_same_log_probabilities_are_the_same_model() -> None:
    compared = compare([LONG, SHORT], answer([-1.1, -2.0, -2.9], [-0.5]))

    assert compared.holds
    assert compared.mean == pytest.approx(0.05)
    assert compared.worst == pytest.approx(0.2 / 3)


@pytest.mark.parametrize(
    "logprobs",
    [
        ([-1.6, -2.6, -3.6], [-1.1]),  # All are off by a little too much.
        ([-1.0, -2.0, -3.0], [-2.0]),  # One prompt is answered by another model.
        ([math.nan, -2.0, -3.0], [-0.5]),
        ([-1.0, -math.inf, -3.0], [-0.5]),
    ],
)
def test_others_are_another_model(logprobs: tuple[list[float], list[float]]) -> None:
    assert not compare([LONG, SHORT], answer(*logprobs)).holds


@pytest.mark.parametrize(
    ("noise", "mean", "prompt"),
    [
        (0.0, 0.05, 0.1),  # float32 on one processor says little of another.
        (0.025, 0.1, 0.2),  # bfloat16.
        (0.17, 0.5, 1.0),  # Rounded activations: as without noise.
        (None, 0.5, 1.0),  # Published by an earlier release.
    ],
)
def test_an_engine_may_differ_by_the_noise_of_its_verification(
    noise: float | None, mean: float, prompt: float
) -> None:
    bounds = Bounds.of_noise(noise)

    assert (bounds.mean, bounds.prompt) == pytest.approx((mean, prompt))
    assert Comparison(((mean - 0.001, 9),), bounds).holds
    assert not Comparison(((mean + 0.001, 9),), bounds).holds
    # One prompt of many may be further off than the mean.
    assert Comparison(((prompt - 0.001, 1), (0.0, 99)), bounds).holds
    assert not Comparison(((prompt + 0.001, 1), (0.0, 99)), bounds).holds


def test_the_noise_is_read_from_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "fingerprints.json", LONG)
    assert read_bounds(path) == Bounds()

    path.write_text(json.dumps({**json.loads(path.read_text()), "noise": 0.03}))
    assert read_bounds(path) == Bounds.of_noise(0.03)


def write(path: Path, *probes: Fingerprint) -> Path:
    content = [probe.model_dump(by_alias=True) for probe in probes]
    path.write_text(json.dumps({"vllmVersion": "0.32.0", "dtype": "float32", "probes": content}))
    return path


def test_prompts_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "fingerprints.json", LONG, SHORT)

    assert read_fingerprints(path, max_model_length=None) == [LONG, SHORT]
    assert read_fingerprints(path, max_model_length=6) == [LONG, SHORT]
    assert read_fingerprints(path, max_model_length=5) == [SHORT]
    with pytest.raises(ValueError, match="none of 2 prompts fits"):
        read_fingerprints(path, max_model_length=2)


@pytest.mark.parametrize("text", ["", "[]", '{"probes": []}', '{"probes": [{"promptIds": [1]}]}'])
def test_a_file_that_is_no_fingerprints_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fingerprints.json"
    path.write_text(text)

    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's own
        read_fingerprints(path, max_model_length=None)


def test_an_answer_that_moves_within_the_noise_sets_off_nothing() -> None:
    evidence = Evidence()
    assert not evidence.is_other(0, least=0.02)
    evidence.note({0: _prompt(0.03), 1: _prompt(0.0)}, tokens=2, now=0.0)
    evidence.settle()

    for nats, is_other in {0.02: False, 0.05: False, 0.07: True}.items():
        evidence.note({0: _prompt(nats)}, tokens=1, now=1.0)
        assert evidence.is_other(0, least=0.02) is is_other
    # Now it is known that the engine is right all the same.
    evidence.settle()
    assert not evidence.is_other(0, least=0.02)
    evidence.note({1: _prompt(0.019)}, tokens=1, now=2.0)
    assert not evidence.is_other(1, least=0.02)


def _prompt(nats: float) -> ProbedPrompt:
    return ProbedPrompt(difference=nats, loss=nats, num_tokens=2)
