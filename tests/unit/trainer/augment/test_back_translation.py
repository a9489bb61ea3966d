"""Back-translation by a real Apertium."""

import shutil

import pytest

from tunesmith_api.finetunejob.augmentation import BackTranslation
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.back_translation import BackTranslationGenerator

needs_apertium = pytest.mark.skipif(
    shutil.which("apertium") is None, reason="needs Debian's package apertium-eng-spa"
)


@needs_apertium
def test_texts_come_back_each_by_itself_with_lines_and_ends_as_they_were() -> None:
    texts = [
        "I want to",
        "My printer does not print.\n\nThe screen is black!",
        "hobbies: drawing and photography\u2028hiking\nbeing outside",
        "   ",
    ]

    first, second, third, blank = BackTranslationGenerator(BackTranslation()).rewrite(
        texts, variant=0
    )

    assert first is not None
    assert "printer" not in first.text
    assert second is not None
    assert second.text == "My printer does not print.\n\nThe screen is black!"
    assert third is not None
    assert third.text.count("\n") == 1
    assert blank is not None
    assert blank.text == ""


@needs_apertium
def test_it_has_one_variant() -> None:
    generator = BackTranslationGenerator(BackTranslation())

    assert generator.rewrite(["good morning"], variant=1) == [None]


@needs_apertium
def test_a_pair_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(BadInputError, match="apertium-eng-epo") as caught:
        BackTranslationGenerator(BackTranslation(via="epo"))

    assert caught.value.reason is Reason.ENVIRONMENT_MISSING
    assert "eng-spa" in caught.value.message


def test_where_apertium_is_missing_the_packages_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(BadInputError, match="packages apertium and apertium-eng-spa"):
        BackTranslationGenerator(BackTranslation())
