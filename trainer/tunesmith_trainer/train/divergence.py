"""When training has destroyed the model: the rules that end such a run, and what people are told.

`loop` asks after every step, in front of the checkpoint. The rules are functions of the history, so
a run that is taken up again ends where it would have ended.
"""

import math
from collections.abc import Sequence
from itertools import islice
from statistics import median
from typing import Final, cast

from tunesmith_api.finetunejob.training import Optimizer, Training
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.history import HELD_OUT, TRAIN_SAMPLE, History

# Nats per target above the base: 20 times its perplexity.
_MOST_RISE: Final = 3.0
# Half of so many batches have to be bad: an odd one is none, nor a spike that training survives.
_RECENT_STEPS: Final = 20
# Names of rows in one message.
_MOST_ROWS: Final = 8


def refuse_exploded_measures(history: History, *, training: Training) -> None:
    """Return unless the last evaluation has held-out and trained rows far above the base.

    Held-out rows alone may only be overfitted.

    Raises:
        VerdictError: it has; the message names the best step, if one beats the base.
    """
    if history.step == 0:
        return
    base = history.held_out_at(0)
    held_out = history.rises(HELD_OUT)[-1][1]
    # Preferences have no such sample.
    sample = history.rises(TRAIN_SAMPLE)
    trained = sample[-1][1] if sample else _recent_training_loss(history) - base
    if min(held_out, trained) > _MOST_RISE:
        what = (
            f"the held-out loss was {base:.4f} and is {base + held_out:.4f} nats, and that of "
            f"trained rows has risen by {trained:.4f}"
        )
        raise _exploded(what, history=history, training=training)


def refuse_exploded_training(history: History, *, training: Training, vocabulary_size: int) -> None:
    """Return unless the recent training losses lie far above the base and above guessing.

    Raises:
        VerdictError: they do; the message names the best step, if one beats the base.
    """
    if history.step < _RECENT_STEPS:
        return
    recent, base = _recent_training_loss(history), history.held_out_at(0)
    guessing = math.log(vocabulary_size)
    if recent > max(guessing, base + _MOST_RISE):
        what = (
            f"the training loss of the last {_RECENT_STEPS} steps is {recent:.4f} nats in the "
            f"median; the base has {base:.4f} on held-out rows, and guessing would have "
            f"{guessing:.4f}"
        )
        raise _exploded(what, history=history, training=training)


def no_number(
    what: str, *, step: int, last_saved: int, rows: Sequence[str], training: Training
) -> VerdictError:
    """The verdict on a loss or a gradient that is infinite or undefined.

    `rows` are the names of those that it came of, `last_saved` the step of the last checkpoint, 0
    if there is none.
    """
    named = ", ".join(rows[:_MOST_ROWS])
    more = f" and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
    of_rows = f" of rows {named}{more}" if rows else ""
    kept = f"the checkpoint of step {last_saved} is kept; " if last_saved else ""
    return VerdictError(
        Reason.LOSS_DIVERGED, f"step {step}: {what}{of_rows}; {kept}{_advice(training)}"
    )


def _exploded(what: str, *, history: History, training: Training) -> VerdictError:
    best, kept = history.best_loss, ""
    if best is not None and best < history.held_out_at(0):
        kept = (
            f"step {history.best_step}, whose checkpoint is kept, has {best:.4f} on held-out rows; "
        )
    return VerdictError(
        Reason.LOSS_DIVERGED, f"step {history.step}: {what}; {kept}{_advice(training)}"
    )


def _recent_training_loss(history: History) -> float:
    backwards = (point["loss"] for point in reversed(history.points) if point["kind"] == "train")
    return median(float(str(loss)) for loss in islice(backwards, _RECENT_STEPS))


def _advice(training: Training) -> str:
    default = training.model_copy(update={"optimizer": Optimizer()}).with_defaults()
    given, usual = (cast("float", one.optimizer.learning_rate) for one in (training, default))
    advised = min(given / 10, usual)
    return (
        f"lower training.optimizer.learningRate from {given:g} to {advised:g}, or raise "
        "training.schedule.warmupRatio"
    )
