"""The detector: what it alarms at, what it lets pass, and what it does with odd input."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tunesmith_engine.drift.baseline import Baseline
from tunesmith_engine.drift.e_detector import THRESHOLD_LOG_E
from tunesmith_engine.drift.monitor import Block, DriftReport, DriftState, observe, report
from tunesmith_engine.drift.signals import measure
from tunesmith_engine.drift.sketches import Reference, Sketch

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
WORDS = [
    f"{start}{end}" for start in ("tele", "micro", "para", "hydro") for end in range(1000, 1100)
]
TOPIC = ["begonia", "petals", "shrub", "leaflets", "meadow", "perennial", "blossom", "climber"]


class Traffic:
    """Requests of thirty words; `strange` of them are about plants, or in another language."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def sketch(self, num: int, *, strange: float = 0.0, answer: str = "") -> Sketch:
        return Sketch.of(self._request(strange, answer) for _ in range(num))

    def blocks(
        self, num: int, *, begin: datetime = MONDAY, minutes: float = 2, **kind: float
    ) -> Iterator[Block]:
        for number in range(num):
            yield begin + timedelta(minutes=minutes * number), self.sketch(16, **kind)

    def _request(self, strange: float, answer: str) -> dict[str, int | tuple[int, ...]]:
        # Some words are common and most are rare, as in any language.
        ranks = [int(len(WORDS) ** self._random.random()) - 1 for _ in range(22)]
        is_strange = self._random.random() < strange
        words = [WORDS[rank] for rank in ranks]
        words += self._random.sample(TOPIC, 4) if is_strange else []
        tokens = max(1, round(self._random.gauss(40, 12)))
        return measure(
            " ".join(words),
            answer or " ".join(words[:12]),
            prompt_tokens=tokens,
            output_tokens=max(1, round(self._random.gauss(20, 6))),
            finish_reason="stop",
        )


@pytest.fixture(scope="module")
def reference() -> Reference:
    traffic = Traffic(1)
    return Reference(training=traffic.sketch(1500), validation=traffic.sketch(200))


@pytest.fixture(scope="module")
def settled(reference: Reference) -> DriftState:
    """Three days of ordinary traffic."""
    return observe(DriftState(), Traffic(2).blocks(700, minutes=6), reference=reference)


def row(shown: DriftReport, signal: str) -> tuple[float, float]:
    found = next(each for each in shown.signals if each.signal == signal)
    return found.log_e, found.effect


def test_ordinary_traffic_is_no_drift(settled: DriftState, reference: Reference) -> None:
    shown = report(settled, reference=reference)

    assert shown.drifted == ()
    assert (shown.num_requests, shown.since) == (11_200, MONDAY)
    assert max(each.log_e for each in shown.signals) < shown.threshold_log_e / 2
    assert max(each.effect for each in shown.signals) < 0.1


def test_a_new_topic_in_a_tenth_of_the_requests_is_seen(
    settled: DriftState, reference: Reference
) -> None:
    later = Traffic(3).blocks(30, begin=MONDAY + timedelta(days=3), strange=0.1)
    shown = report(observe(settled, later, reference=reference), reference=reference)

    log_e, effect = row(shown, "promptWords")
    assert "promptWords" in shown.drifted
    assert log_e >= shown.threshold_log_e
    assert 0.03 < effect < 0.12


def test_another_language_is_seen_within_a_hundred_requests(
    settled: DriftState, reference: Reference
) -> None:
    traffic, begin = Traffic(4), MONDAY + timedelta(days=3)
    blocks = [
        (begin + timedelta(minutes=number), traffic.sketch(16, answer="Где находится библиотека"))
        for number in range(6)
    ]
    shown = report(observe(settled, blocks, reference=reference), reference=reference)

    assert "answerScript" in shown.drifted
    assert row(shown, "answerScript")[1] > 0.2


def test_traffic_that_comes_back_is_drift_no_more(
    settled: DriftState, reference: Reference
) -> None:
    begin = MONDAY + timedelta(days=3)
    strange = observe(settled, Traffic(5).blocks(40, begin=begin, strange=0.3), reference=reference)
    usual = Traffic(6).blocks(250, begin=begin + timedelta(hours=2))

    assert "promptWords" in report(strange, reference=reference).drifted
    assert report(observe(strange, usual, reference=reference), reference=reference).drifted == ()


def test_drift_is_not_learnt(settled: DriftState, reference: Reference) -> None:
    begin = MONDAY + timedelta(days=3)
    blocks = Traffic(7).blocks(1000, begin=begin, strange=0.3)
    shown = report(observe(settled, blocks, reference=reference), reference=reference)

    assert "promptWords" in shown.drifted


def test_it_is_small_whatever_it_has_seen(settled: DriftState, reference: Reference) -> None:
    assert len(settled.model_dump_json(by_alias=True)) < 64 * 1024
    assert len(reference.model_dump_json(by_alias=True)) < 64 * 1024


def test_a_state_goes_on_after_it_was_stored(settled: DriftState, reference: Reference) -> None:
    blocks = list(Traffic(8).blocks(40, begin=MONDAY + timedelta(days=3), strange=0.1))
    at_once = observe(settled, blocks, reference=reference)
    stored = settled
    for block in blocks:
        after = observe(stored, [block], reference=reference)
        stored = DriftState.model_validate_json(after.model_dump_json(by_alias=True))

    rows = report(at_once, reference=reference).signals
    expected = {each.signal: each.log_e for each in rows}
    for each in report(stored, reference=reference).signals:
        # Half precision, forty times.
        assert each.log_e == pytest.approx(expected[each.signal], abs=0.5)


def test_without_a_reference_or_traffic_it_says_so(
    settled: DriftState, reference: Reference
) -> None:
    blocks = list(Traffic(9).blocks(3))

    assert observe(settled, blocks, reference=None) == settled
    assert report(settled, reference=None).reason == "NoReference"
    assert report(DriftState(), reference=reference).reason == "NoTraffic"


def test_empty_blocks_and_signals_that_are_missing_say_nothing(reference: Reference) -> None:
    empty = [(MONDAY, Sketch())]
    bare = [(MONDAY, Sketch(num_requests=16))] * 50

    assert observe(DriftState(), empty, reference=reference).num_requests == 0
    assert (
        report(observe(DriftState(), bare, reference=reference), reference=reference).drifted == ()
    )


@pytest.mark.parametrize("arrays", ["", "junk", "eJwDAAAAAAE=", "eJxLTEoGAAJNASc="])
def test_a_state_that_cannot_be_read_begins_anew(arrays: str, reference: Reference) -> None:
    spoilt = DriftState(num_requests=5, arrays=arrays, drifted=("promptWords", "unheardOf"))
    after = observe(spoilt, Traffic(10).blocks(2), reference=reference)

    assert after.num_requests == (32 if arrays else 37)
    assert after.drifted == ()


def test_clocks_that_jump_break_nothing(settled: DriftState, reference: Reference) -> None:
    traffic = Traffic(11)
    times = [MONDAY + timedelta(days=days) for days in (3, -400, 3.1, 4000, 3.2)]
    state = observe(settled, [(at, traffic.sketch(16)) for at in times * 4], reference=reference)

    assert report(state, reference=reference).drifted == ()


def test_a_daily_cycle_is_learnt() -> None:
    """A signal that half of the night's requests have, and a tenth of the day's."""
    prior = np.full_like(Baseline(np.zeros(1)).sums, 0.3)
    baseline, chance = Baseline(prior), random.Random(12)
    for hour in range(21 * 24):
        at = MONDAY + timedelta(hours=hour)
        baseline = baseline.at(at)
        share = 0.3 + 0.2 * np.cos(2 * np.pi * at.hour / 24)
        vector = np.full_like(prior, np.mean([chance.random() < share for _ in range(100)]))
        baseline = baseline.learn(vector, np.full_like(baseline.weights, 100.0))
    night = baseline.at(MONDAY + timedelta(days=22)).limits
    noon = baseline.at(MONDAY + timedelta(days=22, hours=12)).limits

    assert night.shares[0] == pytest.approx(0.5, abs=0.03)
    assert noon.shares[0] == pytest.approx(0.1, abs=0.03)
    assert noon.largest[0] + 3 * noon.errors[0] < 0.2


def test_the_threshold_is_shared_by_all_signals() -> None:
    assert np.log(100_000) < THRESHOLD_LOG_E < 15
