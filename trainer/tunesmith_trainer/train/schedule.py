"""The learning rate of each step: a function of the step, with no state a checkpoint could lose.

`loop` asks for the rate and sets it; `config` has decided how many steps there are.
"""

import math
from typing import cast

from tunesmith_api.finetunejob.training import Schedule
from tunesmith_trainer.train.config import TrainConfig


def learning_rate(config: TrainConfig, *, step: int) -> float:
    """Rate of optimizer step `step`, counted from 1.

    Linear warm-up, then the named decay to the floor: cosine after Loshchilov & Hutter 2017 (arXiv
    1608.03983), or wsd after Hägele et al. 2024 (arXiv 2405.18392), which holds the peak until its
    decay. With several cycles all of it is repeated, warming up from the floor again (Ibrahim et
    al. 2024, arXiv 2403.08763). The last step of a warm-up has the peak rate, the last step of a
    cycle the floor.
    """
    peak = cast("float", config.training.optimizer.learning_rate)
    schedule = config.training.schedule
    floor, warmup = schedule.min_learning_rate_ratio, config.warmup_steps
    cycle, done, num_steps = _place_in_cycle(step, config=config)
    if done <= warmup:
        start = floor if cycle > 0 else 0.0
        return peak * (start * warmup + (1.0 - start) * done) / warmup
    height = _height(schedule, done=done, warmup_steps=warmup, num_steps=num_steps)
    return peak * (floor + (1.0 - floor) * height)


def _height(schedule: Schedule, *, done: int, warmup_steps: int, num_steps: int) -> float:
    """The rate between floor and peak, 0 to 1, after `done` of the steps of a cycle."""
    if schedule.type == "constant":
        return 1.0
    first = warmup_steps
    if schedule.type == "wsd":
        # Not before the peak: both parts are rounded up to whole steps.
        first = max(first, num_steps - math.ceil(schedule.decay_ratio * num_steps))
    part_done = max(0, done - first) / (num_steps - first)
    if schedule.type == "cosine":
        return (1.0 + math.cos(math.pi * part_done)) / 2.0
    if schedule.type == "wsd" and schedule.decay_type == "1-sqrt":
        return 1.0 - math.sqrt(part_done)
    return 1.0 - part_done


def _place_in_cycle(step: int, *, config: TrainConfig) -> tuple[int, int, int]:
    """The cycle that `step` is in, which of its steps that is, from 1, and how many it has."""
    cycles = config.training.schedule.cycles
    # Cycle c ends with step floor((c + 1) × steps / cycles): their lengths differ by one at most.
    cycle = (step * cycles - 1) // config.num_steps
    before, end = (config.num_steps * number // cycles for number in (cycle, cycle + 1))
    return cycle, step - before, end - before
