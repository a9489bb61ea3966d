"""How often a replica asks for a fingerprint: a share of what it serves, within two bounds."""

import random
from collections.abc import Callable

import pytest

from tunesmith_serving.replica.probe_pace import ProbePace, computed_tokens

PACE = ProbePace(shortest_seconds=15, longest_seconds=120, fraction=0.001)
TOKENS = 64


@pytest.mark.parametrize(
    ("seconds", "spent", "served", "is_due"),
    [
        (14.9, TOKENS, 1e9, False),
        (15.0, TOKENS, 1e9, True),
        (15.0, TOKENS, 64_000, True),
        (119.0, TOKENS, 63_999, False),
        (120.0, TOKENS, 0, True),
        # One that was off was confirmed with all of them.
        (15.0, 20 * TOKENS, 64_000, False),
        # The engine was busy: it took nothing.
        (15.0, 0, 0, True),
    ],
)
def test_the_next_one_is_due(*, seconds: float, spent: int, served: float, is_due: bool) -> None:
    assert PACE.is_due(seconds=seconds, spent=spent, served=served) is is_due


def test_nothing_is_allowed_but_the_rarest_pace() -> None:
    none = ProbePace(shortest_seconds=15, longest_seconds=120, fraction=0)
    assert not none.is_due(seconds=119, spent=TOKENS, served=1e9)
    assert none.is_due(seconds=120, spent=TOKENS, served=1e9)


@pytest.mark.parametrize("longest", [15.0, 3.0])
def test_the_pace_is_fixed_where_the_bounds_meet(longest: float) -> None:
    fixed = ProbePace(shortest_seconds=15, longest_seconds=longest, fraction=0.001)
    assert fixed.pause(seconds=0) == 15
    assert not fixed.is_due(seconds=14.99, spent=TOKENS, served=1e9)
    assert fixed.is_due(seconds=15, spent=TOKENS, served=0)


@pytest.mark.parametrize(
    ("seconds", "pause"), [(0.0, 15.0), (14.99, 0.01), (15.0, 15.0), (110.0, 10.0), (130.0, 0.0)]
)
def test_looks_come_no_later_than_the_rarest_pace(seconds: float, pause: float) -> None:
    assert PACE.pause(seconds=seconds) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("tokens_per_second", "seconds_between"),
    [(0, 120), (100, 120), (600, 120), (1_000, 75), (2_200, 30), (4_300, 15), (50_000, 15)],
)
def test_probes_take_their_share_of_steady_traffic(
    tokens_per_second: int, seconds_between: float
) -> None:
    assert _between(lambda _: tokens_per_second) == [seconds_between] * 20


def test_probes_take_no_more_of_traffic_that_comes_and_goes() -> None:
    draw = random.Random(0)
    gaps = _between(lambda _: draw.choice([0, 500, 2_000, 20_000]), number=200)
    assert set(gaps) <= {15.0 * step for step in range(1, 9)}
    assert len(set(gaps)) > 2


def _between(rate: Callable[[float], int], *, number: int = 20) -> list[float]:
    """Seconds between probes where so much is served; each is held to its share."""
    gaps = []
    for _ in range(number):
        seconds = served = 0.0
        while not PACE.is_due(seconds=seconds, spent=TOKENS, served=served):
            pause = PACE.pause(seconds=seconds)
            seconds, served = seconds + pause, served + pause * rate(seconds)
        assert seconds == PACE.longest_seconds or PACE.fraction * served >= TOKENS
        gaps.append(seconds)
    return gaps


def test_what_the_prefix_cache_answers_is_not_computed() -> None:
    labels = '{engine="0",model_name="helpdesk"}'
    other = '{engine="1",model_name="helpdesk"}'
    text = (
        f"vllm:prompt_tokens_total{labels} 1000.0\n"
        f"vllm:prompt_tokens_total{other} 200.0\n"
        f"vllm:prompt_tokens_cached_total{labels} 400.0\n"
        f'vllm:prompt_tokens_by_source_total{{engine="0",source="local_compute"}} 600.0\n'
        f"vllm:generation_tokens_total{labels} 50.0\n"
    )
    assert computed_tokens(text) == 850


@pytest.mark.parametrize("text", ["", "Not Found", "vllm:num_requests_running 3\n"])
def test_an_engine_that_does_not_count_is_none(text: str) -> None:
    assert computed_tokens(text) is None
