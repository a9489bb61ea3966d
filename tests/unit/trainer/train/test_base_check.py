"""A base that is worse than guessing is questioned before it is trained."""

import math

import pytest

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.base_check import doubt_about_base, refuse_broken_base

GUESSING = math.log(1000)


def test_a_sound_base_raises_no_doubt() -> None:
    refuse_broken_base(GUESSING - 2, vocab_size=1000)
    assert doubt_about_base(GUESSING - 2, vocab_size=1000) is None


def test_one_that_guesses_is_warned_about() -> None:
    refuse_broken_base(GUESSING + 0.2, vocab_size=1000)
    assert "chat template" in (doubt_about_base(GUESSING + 0.2, vocab_size=1000) or "")


def test_one_that_is_clearly_worse_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"8\.41 nats, and guessing .* 6\.91") as caught:
        refuse_broken_base(GUESSING + 1.5, vocab_size=1000)

    assert caught.value.reason is Reason.INVALID_SPEC
