"""Burn rates from replicas' counters: they ring soon, never on a day like others, and end."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.modeldeployment.slo import ServiceLevelObjectives
from tunesmith_engine.monitoring.burn_rates import (
    budget_remaining,
    burn_rates,
    is_burning,
    slo_statuses,
)
from tunesmith_engine.monitoring.replica_counters import (
    ReplicaCounters,
    growth,
    promises,
)
from tunesmith_engine.monitoring.slo_rules import BURN_WINDOWS
from tunesmith_engine.monitoring.tallies import RESOLUTIONS, Tally

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
OBJECTIVE = 0.999
PROMISES = promises(ServiceLevelObjectives.model_validate({"availability": {}}))
amounts = st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 1000)), min_size=1, max_size=60)


@given(counted=amounts)
def test_a_window_holds_what_was_counted_in_it(counted: list[tuple[int, int]]) -> None:
    """To a slot: nothing older than the window and a slot, all that is younger by a slot."""
    tally, events, now = Tally(), [], START
    for seconds, amount in counted:
        now += timedelta(seconds=seconds)
        tally = tally.add([amount], now=now)
        events.append((now, amount))

    for window, slot in ((300, 60), (7200, 60), (21_600, 1800), (259_200, 1800)):
        told = sum(tally.over(window, now=now))
        ages = [((now - at).total_seconds(), amount) for at, amount in events]
        assert told <= sum(amount for age, amount in ages if age < window + slot)
        assert told >= sum(amount for age, amount in ages if age <= window - slot)


@settings(max_examples=30)
@given(jumps=st.lists(st.integers(-(10**7), 10**7), max_size=300))
def test_a_tally_stays_small_whatever_the_clock_does(jumps: list[int]) -> None:
    tally, now = Tally(), START
    for seconds in jumps:
        now += timedelta(seconds=seconds)
        tally = tally.add([1.0, 1.0], now=now)

    for size, most in RESOLUTIONS.items():
        slots = tally.slots.get(size, [])
        assert len(slots) <= most
        assert [slot.index for slot in slots] == sorted({slot.index for slot in slots})
    assert Tally.model_validate_json(tally.model_dump_json()) == tally


def day(tally: Tally, *, hours: float, bad: float, now: datetime) -> tuple[Tally, datetime, int]:
    """Hours of 60 requests a minute of which a share is bad; the minutes that burnt."""
    source, burning, minutes = random.Random(0), False, 0
    for _ in range(round(hours * 60)):
        now += timedelta(minutes=1)
        missed = sum(source.random() < bad for _ in range(60))
        tally = tally.add([60, 60 - missed], now=now)
        rates = burn_rates(tally, objective=OBJECTIVE, now=now)
        burning = is_burning(rates, was_burning=burning)
        minutes += burning
    return tally, now, minutes


def test_a_day_of_requests_as_promised_never_burns() -> None:
    _, _, minutes = day(Tally(), hours=72, bad=0.0005, now=START)

    assert minutes == 0


def test_an_injected_burn_is_told_within_two_looks() -> None:
    tally, now, _ = day(Tally(), hours=2, bad=0.0, now=START)
    burning = 0
    for _ in range(2):
        now += timedelta(minutes=1)
        tally = tally.add([60, 0], now=now)
        burning += is_burning(burn_rates(tally, objective=OBJECTIVE, now=now), was_burning=False)

    assert burning >= 1


def test_a_new_deployment_is_not_burning_for_its_first_failures() -> None:
    """Half of its first hundred: 0.1 % of what the month allows of such traffic."""
    tally = Tally().add([60, 60], now=START).add([40, 20], now=START + timedelta(seconds=30))
    rates = burn_rates(tally, objective=0.99, now=START + timedelta(seconds=30))

    assert not is_burning(rates, was_burning=False)


def test_it_ends_with_the_short_window_and_not_at_the_first_good_minute() -> None:
    tally, now, _ = day(Tally(), hours=1, bad=0.05, now=START)
    ended, burning = None, True
    for minute in range(120):
        now += timedelta(minutes=1)
        tally = tally.add([60, 60], now=now)
        rates = burn_rates(tally, objective=OBJECTIVE, now=now)
        burning = is_burning(rates, was_burning=burning)
        if not burning and ended is None:
            ended = minute

    assert ended is not None
    assert 3 <= ended <= 115


@pytest.mark.parametrize("window", BURN_WINDOWS)
def test_between_factor_and_four_fifths_it_stays_as_it_was(window: object) -> None:
    factor = 0.9 * window.factor  # type: ignore[attr-defined]
    rates = {window.long: factor, window.short: factor}  # type: ignore[attr-defined]

    assert is_burning(rates, was_burning=True)
    assert not is_burning(rates, was_burning=False) or any(
        rates.get(other.long, 0) > other.factor and rates.get(other.short, 0) > other.factor
        for other in BURN_WINDOWS
    )


def test_without_requests_nothing_burns_and_nothing_is_left_of_no_budget() -> None:
    (told,) = slo_statuses(PROMISES, {}, before=(), now=START)

    assert (told.burn_rate, told.budget_remaining, told.burning) == (None, None, False)


def test_the_budget_is_that_of_requests_and_not_of_minutes() -> None:
    tally = Tally().add([1_000_000, 999_500], now=START)

    assert budget_remaining(tally, objective=OBJECTIVE, now=START) == pytest.approx(0.5)
    late = START + timedelta(days=31)
    assert budget_remaining(tally, objective=OBJECTIVE, now=late) is None


counter_values = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


@given(runs=st.lists(counter_values, min_size=1, max_size=6))
def test_growth_adds_up_to_what_every_process_has_counted(runs: list[list[int]]) -> None:
    """Restarts in between, at each of which the counter begins again at 0."""
    before = ReplicaCounters(instance="0", values={"x": 0.0})
    told = 0.0
    for number, increments in enumerate(runs):
        total = 0
        for increment in increments:
            total += increment
            after = ReplicaCounters(instance=str(number), values={"x": float(total)})
            told += growth(before, after).get("x", 0.0)
            before = after

    assert told == sum(map(sum, runs))


def test_a_counter_that_was_not_read_before_is_not_taken_for_news() -> None:
    before = ReplicaCounters(instance="1", values={"x": 5.0})
    after = ReplicaCounters(instance="1", values={"x": 7.0, "y": 1e9})

    assert growth(before, after) == {"x": 2.0}
