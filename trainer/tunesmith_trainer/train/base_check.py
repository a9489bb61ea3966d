"""Is the base model one at all? Judged by its loss before the first step.

A model that knows nothing scores the logarithm of its vocabulary. One that is clearly worse has the
wrong weights, tokenizer or chat template, and training would only hide it.
"""

import math
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

# Nats beyond guessing: weights that were drawn at random may be a little worse, never by so much.
_BROKEN: Final = 1.0


def refuse_broken_base(loss: float, *, vocab_size: int) -> None:
    """Return unless the base is worse than guessing by more than a nat per target.

    Raises:
        BadInputError: it is.
    """
    guessing = math.log(vocab_size)
    if loss > guessing + _BROKEN:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.model: the base has a held-out loss of {loss:.2f} nats, and guessing among its "
            f"{vocab_size:,} tokens {guessing:.2f}; its weights, tokenizer or chat template do not "
            "belong together: take another model, or set spec.model.chatTemplate",
        )


def doubt_about_base(loss: float, *, vocab_size: int) -> str | None:
    """A warning where the base is no better than guessing."""
    guessing = math.log(vocab_size)
    if loss <= guessing:
        return None
    return (
        f"the base knew nothing of these rows: its held-out loss was {loss:.2f}, that of guessing "
        f"{guessing:.2f}; are model, tokenizer and chat template those of one model?"
    )
