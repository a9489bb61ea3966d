"""What is remembered of a finished job or search: its task in numbers, and its trials."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, StringConstraints

from tunesmith_api.base import ApiModel

# Plain values only: a setting is a number, a switch or a word, under its dotted path.
Setting = bool | int | float | str
Settings = dict[str, Setting]
Text = Annotated[str, StringConstraints(max_length=512)]
HELD_OUT_LOSS: Final = "heldOutLoss"
Direction = Literal["minimize", "maximize"]
# Of a search of thousands of trials; the best are kept, and an even part of the others.
MOST_TRIALS: Final = 256


class Task(ApiModel):
    """What was tuned on what, as far as it decides which settings do well.

    `family` is what models with one tokenizer have in common, `kind` the format of the rows.
    `base_loss` is the base model's loss on the held-out rows, in nats per target token: how far
    the rows are from what it knows. `measure` is by what trials were compared.
    """

    family: Text = ""
    kind: Text = ""
    method: Text = ""
    objective: Text = ""
    measure: Text = HELD_OUT_LOSS
    direction: Direction = "minimize"
    parameters: Annotated[int, Field(ge=1)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    rows: Annotated[int, Field(ge=1)] | None = None
    mean_row_tokens: Annotated[float, Field(gt=0)] | None = None
    base_loss: Annotated[float, Field(ge=0)] | None = None
    # Of data and model: jobs with the same one are trials of one task.
    digest: Text = ""


class PastTrial(ApiModel):
    """One training: what it changed of the job's settings, and what came of it.

    `value` is None where there is none: it diverged, or ran out of memory.
    """

    settings: Settings
    value: float | None = None


class PastJob(ApiModel):
    """A finished job: a search with its trials, or an ordinary job, which is one trial."""

    job: Text
    # Of this very run: recorded again, it takes the place of the older record.
    uid: Text
    finished: Text = ""
    task: Task
    settings: Settings = Field(default_factory=dict)
    trials: Annotated[list[PastTrial], Field(min_length=1, max_length=MOST_TRIALS)]

    def settings_of(self, trial: PastTrial) -> Settings:
        """All settings that a trial was trained with."""
        return {**self.settings, **trial.settings}


def thinned(trials: list[PastTrial], *, direction: Direction) -> list[PastTrial]:
    """At most as many as a record holds: the best half of them, and every n-th of the others."""
    if len(trials) <= MOST_TRIALS:
        return trials
    ranked = sorted(trials, key=lambda trial: badness(trial.value, direction=direction))
    num_best = MOST_TRIALS // 2
    others, num_others = ranked[num_best:], MOST_TRIALS - num_best
    step = len(others) / num_others
    return ranked[:num_best] + [others[int(place * step)] for place in range(num_others)]


def badness(value: float | None, *, direction: Direction) -> float:
    """A value turned so that less is better; without one, worse than any."""
    if value is None:
        return float("inf")
    return value if direction == "minimize" else -value


def plain_settings(value: JsonValue, *, path: str = "") -> Iterator[tuple[str, Setting]]:
    """Every number, switch and word inside a manifest's part, under its dotted path."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from plain_settings(child, path=f"{path}.{name}" if path else name)
    elif isinstance(value, bool | int | float | str):
        yield path, value
