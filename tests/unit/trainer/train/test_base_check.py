"""A base that is no better than guessing is questioned before it is trained."""

import math

from tunesmith_trainer.train.base_check import doubt_about_base

GUESSING = math.log(1000)


def test_a_sound_base_raises_no_doubt() -> None:
    assert doubt_about_base(GUESSING - 2, vocab_size=1000) is None


def test_one_that_guesses_is_questioned() -> None:
    doubt = doubt_about_base(GUESSING + 0.2, vocab_size=1000)

    assert doubt is not None
    assert "was 7.11, that of guessing 6.91" in doubt
    assert "chat template" in doubt
