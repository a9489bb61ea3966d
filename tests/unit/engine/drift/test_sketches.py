"""Sketches: counted, merged, written and read back, and refused where they are something else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith_engine.drift.signals import SIGNALS
from tunesmith_engine.drift.sketches import NUM_BINS, Reference, Sketch, Tally

LARGEST_FILE = 64 * 1024
BINS = st.fixed_dictionaries(
    {},
    optional={signal.name: st.integers(0, signal.num_bins - 1) for signal in SIGNALS},
)


@given(st.lists(BINS), st.lists(BINS))
def test_merged_sketches_are_the_sketch_of_all(
    some: list[dict[str, int]], others: list[dict[str, int]]
) -> None:
    both = Sketch.of(some).merge(Sketch.of(others))

    assert both == Sketch.of(some + others)
    assert both == Sketch.of(others).merge(Sketch.of(some))


def test_a_request_is_added_to_a_copy() -> None:
    before = Sketch.of([{"refusal": 1}])

    after = before.merge(Sketch.of([{"refusal": 0, "answerFormat": 2}]))

    assert before.signals == {"refusal": (0, 1)}
    assert after.signals == {"refusal": (1, 1), "answerFormat": (0, 0, 1, 0, 0, 0)}
    assert (before.num_requests, after.num_requests) == (1, 2)


def test_a_sketch_is_written_and_read_back() -> None:
    sketch = Sketch.of([{"refusal": 1, "promptTokens": 3}])

    text = sketch.model_dump_json(by_alias=True)

    assert json.loads(text) == {
        "version": 1,
        "numRequests": 1,
        "signals": {
            "refusal": [0, 1],
            "promptTokens": [0, 0, 0, 1, *[0] * (NUM_BINS["promptTokens"] - 4)],
        },
    }
    assert Sketch.model_validate_json(text) == sketch


@pytest.mark.parametrize(
    "given_sketch",
    [
        {"version": 2, "numRequests": 0, "signals": {}},
        {"numRequests": -1},
        {"numRequests": 1, "signals": {"refusal": [1]}},
        {"numRequests": 1, "signals": {"refusal": [1, "somebody's words"]}},
        {"numRequests": 1, "signals": {"refusal": [-1, 2]}},
        {"numRequests": 1, "signals": []},
        {"text": "somebody's words"},
    ],
)
def test_what_is_no_sketch_of_this_form_is_refused(given_sketch: Any) -> None:
    with pytest.raises(ValidationError):
        Sketch.model_validate(given_sketch)


def test_a_signal_of_a_later_release_is_passed_over() -> None:
    sketch = Sketch.model_validate({"numRequests": 1, "signals": {"mood": [1], "refusal": [1, 0]}})

    assert sketch.signals == {"refusal": (1, 0)}


def test_what_is_no_bin_is_never_counted() -> None:
    with pytest.raises(LookupError):
        Tally().add({"mood": 1})
    with pytest.raises(LookupError):
        Tally().add({"refusal": 2})


def test_a_reference_fits_into_64_kib_however_much_was_counted() -> None:
    full = Sketch(
        num_requests=2**31,
        signals={name: (2**31,) * number for name, number in NUM_BINS.items()},
    )
    reference = Reference(model_version="v" * 253, training=full, validation=full)

    text = reference.model_dump_json(by_alias=True)

    assert len(text) <= LARGEST_FILE
    assert Reference.model_validate_json(text) == reference
