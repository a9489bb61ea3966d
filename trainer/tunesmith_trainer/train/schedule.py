"""The learning rate as a pure function of the step: there is no scheduler state to lose.

`loop` asks for the rate of each step. Linear warm-up, then the named decay to the floor; cosine
after Loshchilov & Hutter 2017 (arXiv 1608.03983), without restarts.
"""

import math

from tunesmith_trainer.train.config import Recipe


def learning_rate(recipe: Recipe, *, step: int) -> float:
    """Rate of optimizer step `step`, counted from 1.

    The last step of the warm-up has the peak rate, the last step of all has the floor.
    """
    if step <= recipe.warmup_steps:
        return recipe.learning_rate * step / recipe.warmup_steps
    remaining = recipe.num_steps - recipe.warmup_steps
    part_done = (step - recipe.warmup_steps) / remaining
    return recipe.learning_rate * _decay(recipe, part_done=part_done)


def _decay(recipe: Recipe, *, part_done: float) -> float:
    if recipe.schedule == "constant":
        return 1.0
    height = 1.0 - part_done
    if recipe.schedule == "cosine":
        height = (1.0 + math.cos(math.pi * part_done)) / 2.0
    return recipe.floor_ratio + (1.0 - recipe.floor_ratio) * height
