"""What clients send: the tap measures it, or says that it cannot, and never fails a request."""

import json
from typing import Final

import pytest

from fuzzing import LONG, SHORT, fuzz
from tunesmith_serving.replica.adapter_requests import parse_body
from tunesmith_serving.tap.tapped_request import TappedRequest

REQUESTS: Final = [
    json.dumps({"model": "m", "messages": [{"role": "user", "content": "Why?"}]}).encode(),
    json.dumps({"prompt": ["Why?", "How?"], "tools": [{"function": {"name": "f"}}]}).encode(),
]


def tap(content: bytes) -> None:
    request = TappedRequest()
    for piece in (content[:7], content[7:]):
        request.read_body(piece, is_last=piece is not content[:7])
    told = parse_body(content)
    choice = told if told is not None else {}
    request.read_choice(choice, choice)
    request.bins(prompt_tokens=3, output_tokens=4, is_whole=True)


def test_a_well_formed_request_is_measured() -> None:
    request = TappedRequest()
    request.read_body(REQUESTS[0], is_last=True)

    assert request.problem is None


def test_a_request_is_measured_or_passed_over() -> None:
    fuzz(tap, REQUESTS, refusals=(), examples=SHORT)


@pytest.mark.long
def test_a_request_is_measured_or_passed_over_whatever_it_is() -> None:
    fuzz(tap, REQUESTS, refusals=(), examples=LONG)
