"""What is said of a request, from the pieces of its response."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tunesmith_engine.rollout.samples import Arm, Sample
from tunesmith_serving.replica.event_stream import MAX_LINE_BYTES, EventStream
from tunesmith_serving.replica.measurement import Measurement

DONE = b"data: [DONE]\n\n"


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def token(text: str = "word", *, reason: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    return event({"choices": [choice]})


def streamed(*pieces: bytes, is_whole: bool = True, is_disconnected: bool = False) -> Sample:
    """The sample of a stream whose pieces come a second after another."""
    measurement = Measurement(arrived=100.0)
    measurement.start(200, is_stream=True)
    for place, piece in enumerate(pieces, start=1):
        measurement.read(piece, now=100.0 + place)
    end = 100.0 + len(pieces)
    measurement.end(now=end, is_whole=is_whole, is_disconnected=is_disconnected)
    return as_sample(measurement)


def answered(body: bytes, *, status: int = 200, **ended: bool) -> Sample:
    """The sample of an answer in one piece."""
    measurement = Measurement(arrived=100.0)
    measurement.start(status, is_stream=False)
    measurement.read(body, now=102.0)
    measurement.end(now=102.0, **{"is_whole": True, "is_disconnected": False, **ended})
    return as_sample(measurement)


def as_sample(measurement: Measurement, *, now: float = 500.0) -> Sample:
    return Sample.model_validate(
        {"arm": Arm.STABLE, "timeSeconds": 0.0, **measurement.fields(now=now)}
    )


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
USAGE = event({"choices": [], "usage": {"completion_tokens": 5}})


def test_a_whole_stream_has_its_times_and_its_tokens() -> None:
    sample = streamed(ROLE, token(), token(), token(reason="stop"), DONE)

    assert sample.incomplete is None
    assert sample.ttft_seconds == 2.0
    assert sample.itl_seconds == 1.0
    assert sample.output_tokens == 3


def test_usage_tells_of_tokens_that_came_in_one_chunk() -> None:
    sample = streamed(token(), token(reason="stop"), USAGE, DONE)

    assert sample.output_tokens == 5
    assert sample.itl_seconds == 1 / 4


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((token(), token("", reason="abort"), DONE), "abort"),
        ((token(), DONE), "noFinishReason"),
        ((token(reason="stop"),), "noDone"),
        # vLLM was killed under the request: with status 200 and [DONE].
        ((token(), event({"error": {"code": 500}}), DONE), "error"),
        ((token(reason="stop"), token(index=1), DONE), "noFinishReason"),
        ((DONE,), "noFinishReason"),
    ],
)
def test_a_stream_that_broke_off_is_not_taken_for_an_answer(
    pieces: Sequence[bytes], reason: str
) -> None:
    sample = streamed(*pieces)

    assert sample.incomplete == reason
    assert not sample.error
    assert sample.output_tokens is None


def test_an_error_in_place_of_a_stream_is_an_error() -> None:
    sample = streamed(event({"error": {"code": 500}}), DONE)

    assert (sample.error, sample.incomplete) == (True, None)


def test_a_client_that_went_has_waited_until_then() -> None:
    sample = streamed(b"", b"", is_whole=False, is_disconnected=True)

    assert sample.incomplete == "disconnect"
    assert sample.ttft_seconds == 2.0


def test_a_client_that_goes_after_the_end_has_its_answer() -> None:
    assert streamed(token(reason="stop"), DONE, is_disconnected=True).incomplete is None


def test_a_request_under_way_has_waited_so_long() -> None:
    measurement = Measurement(arrived=100.0)

    assert as_sample(measurement, now=161.0).ttft_seconds == 61.0


def test_an_answer_in_one_piece_brings_its_first_token_with_its_last() -> None:
    choice = {"index": 0, "message": {"content": "Turn it off."}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": {"completion_tokens": 4}}).encode()

    sample = answered(body)

    assert (sample.output_tokens, sample.ttft_seconds, sample.itl_seconds) == (4, 2.0, 0.5)
    assert sample.refusal is False


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"choices": [{"index": 0, "te', "badJson"),
        (b'{"choices": []}', "noFinishReason"),
        (b'{"choices": [{"index": 0, "text": "", "finish_reason": "abort"}]}', "abort"),
    ],
)
def test_an_answer_in_one_piece_may_be_broken_too(body: bytes, reason: str) -> None:
    assert answered(body).incomplete == reason


def test_an_answer_that_was_cut_is_not_whole() -> None:
    assert answered(b"{", is_whole=False).incomplete == "noFinishReason"


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_error_is_an_error_whatever_its_body(status: int) -> None:
    sample = answered(b"no JSON", status=status)

    assert (sample.error, sample.incomplete, sample.ttft_seconds) == (True, None, None)


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [
        ("I’m sorry, but I can’t help with that.", True),
        ("I cannot provide instructions for that.", True),
        ("Turn it off. " * 20 + "I cannot provide more.", False),
        ("Sorry to hear that! Restart it.", False),
    ],
)
def test_a_refusal_is_known_by_how_it_opens(text: str, is_refusal: bool) -> None:  # noqa: FBT001
    words = [token(word + " ") for word in text.split()]

    assert streamed(*words, token("", reason="stop"), DONE).refusal is is_refusal


def test_a_tool_call_is_a_token_and_no_refusal() -> None:
    call = {"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}

    sample = streamed(event({"choices": [call]}), DONE)

    assert (sample.incomplete, sample.refusal, sample.output_tokens) == (None, None, 1)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pieces_need_not_end_where_events_end(size: int) -> None:
    text = b": keep-alive\n\n" + token() + token(reason="stop").replace(b"\n", b"\r\n") + DONE
    pieces = [text[start : start + size] for start in range(0, len(text), size)]

    assert streamed(*pieces).incomplete is None


def test_of_a_line_without_end_no_more_is_kept_than_fits() -> None:
    stream = EventStream()

    for _ in range(3):
        assert list(stream.feed(b"data: " + b"x" * MAX_LINE_BYTES)) == []

    assert stream.is_blind
    assert len(stream._rest) == 0


def test_of_what_cannot_be_read_only_the_time_is_known() -> None:
    long = streamed(token(), b"data: " + b"x" * (MAX_LINE_BYTES + 1))

    assert (long.ttft_seconds, long.incomplete, long.output_tokens) == (1.0, None, None)
