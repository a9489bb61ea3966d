"""A recording gives back what was written, and says which line is wrong and what to do."""

import json
from typing import Any

import pytest

from rollouts import a_rollout
from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_engine.rollout import recording
from tunesmith_engine.rollout.recording import (
    MAX_LINE,
    Header,
    Recording,
    RecordingError,
    line_of,
    read_recording,
)

HEADER = Header(tunesmith="0.1.0", stable="helpdesk@1a2b", candidate="helpdesk@3c4d")
SAMPLE = {"arm": "stable", "timeSeconds": 1.5, "ttftSeconds": 0.2}


def with_sample(**changes: Any) -> list[str]:
    return [line_of(HEADER), json.dumps(SAMPLE), json.dumps({**SAMPLE, **changes})]


def test_what_was_written_is_read_again() -> None:
    samples = a_rollout(num=50, quality_loss=0.1)

    again = read_recording([line_of(HEADER), *map(line_of, samples)])

    assert again == Recording(HEADER, tuple(samples))
    assert again.end_seconds == samples[-1].time_seconds


def test_a_rollout_may_end_after_its_last_sample() -> None:
    ended = HEADER.model_copy(update={"ended_seconds": 1800.0})

    assert read_recording([line_of(ended)]).end_seconds == 1800.0


def test_limits_that_are_left_out_have_their_defaults() -> None:
    line = '{"tunesmith": "0.1.0", "stable": "a", "candidate": "b"}'

    assert read_recording([line]).header.limits == Limits()


@pytest.mark.parametrize(
    ("lines", "number", "said"),
    [
        ([], 1, "the file is empty; the first line says recording, versions and limits"),
        ([json.dumps(SAMPLE)], 1, "is required; add it (is this line a sample?"),
        ([line_of(HEADER), "{"], 2, "cut the file here if the writer was killed"),
        ([line_of(HEADER), "[]"], 2, "is no JSON object; write one object a line"),
        ([line_of(HEADER), ""], 2, "is no JSON"),
        ([line_of(HEADER), " " * (MAX_LINE + 1)], 2, "4,097 characters, at most 4,096"),
        (with_sample(ttftSecond=1), 3, "unknown field; did you mean 'ttftSeconds'?"),
        (with_sample(prompt="hello"), 3, "prompt is an unknown field; did you mean 'fixedPrompt'?"),
        (with_sample(ttftSeconds=-1), 3, "ttftSeconds is -1, but should be greater than"),
        (with_sample(ttftSeconds="slow"), 3, "ttftSeconds is a str, but should be a valid number"),
        (with_sample(timeSeconds=float("nan")), 3, "timeSeconds is NaN, but should be a finite"),
        (with_sample(arm="blue"), 3, "arm is a str, but should be 'stable' or 'candidate'"),
        (with_sample(cluster="Ada Lovelace"), 3, "cluster is a str, but should match pattern"),
        (with_sample(incomplete="it hung up"), 3, "incomplete is a str, but should match"),
        (with_sample(timeSeconds=1.0), 3, "so sort the lines by timeSeconds"),
        (
            ['{"tunesmith": "1", "stable": "a", "candidate": "b", "recording": 2}'],
            1,
            "recording is 2, but should be 1",
        ),
        (
            ['{"tunesmith": "1", "stable": "a", "candidate": "b", "limits": {"alpha": 2}}'],
            1,
            "limits.alpha is 2, but should be less than or equal to 0.5",
        ),
    ],
)
def test_a_bad_line_is_named_with_the_rule_and_the_remedy(
    lines: list[str], number: int, said: str
) -> None:
    with pytest.raises(RecordingError) as refused:
        read_recording(lines)

    assert refused.value.line == number
    assert said in str(refused.value)


def test_an_error_does_not_repeat_what_somebody_wrote() -> None:
    with pytest.raises(RecordingError) as refused:
        read_recording(with_sample(cluster="Ada Lovelace"))

    assert "Lovelace" not in str(refused.value)


def test_a_recording_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_SAMPLES", 1)

    with pytest.raises(RecordingError, match="more than 1 samples; cut the file before"):
        read_recording(with_sample())
