"""How the learning rate moves."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_runs import a_train_config
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.schedule import learning_rate

PEAK = 1e-3
PARTS = st.floats(0.0, 0.5)


def config_of(num_steps: int, **schedule: Any) -> TrainConfig:
    return a_train_config(
        training={
            "maxSteps": num_steps,
            "optimizer": {"learningRate": PEAK},
            "schedule": schedule,
        }
    )


def rates_of(config: TrainConfig) -> list[float]:
    """Of every step, as parts of the peak."""
    return [learning_rate(config, step=step) / PEAK for step in range(1, config.num_steps + 1)]


@st.composite
def configs(draw: st.DrawFn) -> TrainConfig:
    num_steps = draw(st.integers(1, 300))
    kind = draw(st.sampled_from(["cosine", "linear", "constant", "wsd"]))
    return config_of(
        num_steps,
        type=kind,
        warmupRatio=draw(PARTS),
        minLearningRateRatio=draw(st.floats(0.0, 1.0)),
        decayRatio=draw(st.floats(0.01, 0.5)),
        decayType=draw(st.sampled_from(["1-sqrt", "linear"])),
        cycles=1 if kind == "constant" else draw(st.integers(1, min(num_steps, 9))),
    )


@given(configs())
def test_no_rate_is_above_the_peak_or_below_zero(config: TrainConfig) -> None:
    assert all(0.0 < rate <= 1.0 + 1e-12 or rate == 0.0 for rate in rates_of(config))


@given(configs())
def test_every_cycle_reaches_the_peak_and_ends_at_the_floor(config: TrainConfig) -> None:
    schedule, rates = config.training.schedule, rates_of(config)
    ends = [len(rates) * number // schedule.cycles for number in range(schedule.cycles + 1)]
    for first, end in pairwise(ends):
        if config.warmup_steps:
            assert rates[first + config.warmup_steps - 1] == pytest.approx(1.0)
        if schedule.type == "constant" or end - first <= config.warmup_steps:
            assert rates[end - 1] == pytest.approx(1.0)
        else:
            assert rates[end - 1] == pytest.approx(schedule.min_learning_rate_ratio, abs=1e-12)


@given(configs())
def test_the_rate_makes_no_jump_but_where_a_cycle_begins(config: TrainConfig) -> None:
    """From step to step it moves by no more than the steepest part of its curve."""
    schedule, rates = config.training.schedule, rates_of(config)
    shortest = config.num_steps // schedule.cycles
    # What is left for a decay, and of it the part that wsd uses.
    decay = max(1, shortest - config.warmup_steps)
    if schedule.type == "wsd":
        decay = min(decay, max(1, math.floor(schedule.decay_ratio * shortest)))
    steepest = {"cosine": math.pi / 2 / decay, "constant": 0.0}.get(schedule.type, 1.0 / decay)
    if schedule.type == "wsd" and schedule.decay_type == "1-sqrt":
        steepest = math.sqrt(1.0 / decay)
    limit = max(steepest, 1.0 / max(1, config.warmup_steps)) + 1e-9
    begins = {config.num_steps * number // schedule.cycles for number in range(schedule.cycles)}
    jumps = [
        abs(after - before)
        for step, (before, after) in enumerate(pairwise(rates), start=1)
        # Without a warm-up a cycle begins at the peak: a warm restart.
        if step not in begins
    ]
    assert max(jumps, default=0.0) <= limit


@given(configs())
def test_the_rate_of_a_step_needs_no_other_step(config: TrainConfig) -> None:
    """A resumed run asks for a later step first."""
    last = learning_rate(config, step=config.num_steps)

    rates_of(config)

    assert learning_rate(config, step=config.num_steps) == last


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0), ("wsd", 1.0)]
)
def test_the_rate_warms_up_to_its_peak_and_decays_to_its_floor(
    schedule: str, middle: float
) -> None:
    config = config_of(20, type=schedule, warmupRatio=0.2, minLearningRateRatio=0.1)
    rates = dict(enumerate(rates_of(config), start=1))

    assert [rates[step] for step in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0])
    assert rates[12] == pytest.approx(middle)
    assert rates[20] == pytest.approx(1.0 if schedule == "constant" else 0.1)


def test_a_quarter_of_the_cosine_is_above_the_line() -> None:
    bare = {"warmupRatio": 0.0, "minLearningRateRatio": 0.0}

    cosine, linear = (rates_of(config_of(8, type=kind, **bare)) for kind in ("cosine", "linear"))

    assert cosine[1] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert linear[1] == pytest.approx(0.75)


def test_wsd_holds_the_peak_and_decays_over_the_last_steps() -> None:
    """1-sqrt falls fast first: half way down the rate is 1 - sqrt(1/2)."""
    bare = {"type": "wsd", "warmupRatio": 0.1, "minLearningRateRatio": 0.0, "decayRatio": 0.4}
    root, line = (rates_of(config_of(10, **bare, decayType=kind)) for kind in ("1-sqrt", "linear"))

    assert root[:6] == line[:6] == [1.0] * 6
    assert root[6:] == pytest.approx([0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75), 0.0])
    assert line[6:] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_later_cycles_warm_up_from_the_floor() -> None:
    config = config_of(20, type="linear", warmupRatio=0.2, minLearningRateRatio=0.5, cycles=2)
    rates = rates_of(config)

    assert rates[:2] == pytest.approx([0.5, 1.0])
    assert rates[9] == pytest.approx(0.5)
    assert rates[10:12] == pytest.approx([0.75, 1.0])
    assert rates[19] == pytest.approx(0.5)


def test_a_run_may_warm_up_all_the_way() -> None:
    assert rates_of(config_of(4, warmupRatio=1.0))[-1] == 1.0
