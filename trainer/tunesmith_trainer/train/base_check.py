"""Is the base model one at all? Judged by its loss before the first step.

A model that knows nothing scores the logarithm of its vocabulary. One that is worse may have the
wrong weights, tokenizer or chat template, and training would only hide it. It is questioned, not
refused: a sound model scores unusual answers, class names say, as badly (docs/log.md).
"""

import math


def doubt_about_base(loss: float, *, vocab_size: int) -> str | None:
    """A warning where the base is no better than guessing; `loss` in nats per target."""
    guessing = math.log(vocab_size)
    if loss <= guessing:
        return None
    return (
        f"the base knew nothing of these rows: its held-out loss was {loss:.2f}, that of guessing "
        f"{guessing:.2f}; do weights, tokenizer and chat template belong together?"
    )
