"""Synonyms of WordNet: the same part of speech and form, and nothing else touched."""

import re
from pathlib import Path

import pytest

from tunesmith_api.finetunejob.augmentation import Synonyms
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.inflection import Form, forms_of, inflected
from tunesmith_trainer.augment.synonyms import SynonymGenerator
from tunesmith_trainer.augment.wordnet import WordNet, load_wordnet

FOLDER = Path("/usr/share/wordnet")
needs_wordnet = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="needs Debian's package wordnet-base"
)


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return load_wordnet(FOLDER)


def rewritten(text: str, *, replaced: float = 1.0, variant: int = 0, seed: int = 0) -> str | None:
    generator = SynonymGenerator(Synonyms(replaced=replaced), seed=seed)
    (one,) = generator.rewrite([text], variant=variant)
    return None if one is None else one.text


@needs_wordnet
@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("movies", Form("movie", "noun", "s")),
        ("stopped", Form("stop", "verb", "ed")),
        ("required", Form("require", "verb", "ed")),
        ("attempting", Form("attempt", "verb", "ing")),
        ("went", Form("go", "verb", "irregular")),
        ("mice", Form("mouse", "noun", "s")),
    ],
)
def test_a_word_is_known_as_a_form_of_its_lemma(wordnet: WordNet, word: str, form: Form) -> None:
    assert form in forms_of(word, wordnet)


@needs_wordnet
@pytest.mark.parametrize(
    ("lemma", "like", "form"),
    [
        ("film", Form("movie", "noun", "s"), "films"),
        ("mouse", Form("movie", "noun", "s"), "mice"),
        ("penalty", Form("movie", "noun", "s"), "penalties"),
        ("athletics", Form("sport", "noun", "s"), None),
        ("stop", Form("x", "verb", "ed"), "stopped"),
        ("stop", Form("x", "verb", "ing"), "stopping"),
        ("try", Form("x", "verb", "ed"), "tried"),
        ("try", Form("x", "verb", "s"), "tries"),
        ("use", Form("x", "verb", "ing"), "using"),
        ("see", Form("x", "verb", "ing"), "seeing"),
        ("go", Form("x", "verb", "ed"), None),
        ("go", Form("x", "verb", "irregular"), None),
    ],
)
def test_a_lemma_takes_the_form_of_another_word(
    wordnet: WordNet, lemma: str, like: Form, form: str | None
) -> None:
    assert inflected(lemma, like, wordnet) == form


@needs_wordnet
def test_words_become_synonyms_in_the_same_form() -> None:
    assert rewritten("have you seen any good movies lately?") == (
        "have you seen any good films recently?"
    )


@needs_wordnet
@pytest.mark.parametrize(
    "text",
    [
        "The Movies are in `movies` at movies.example.com",
        'he said "movies" and nothing else',
        "not never cannot 42",
        "it was so",
    ],
)
def test_names_code_quotes_negations_and_small_words_stay(text: str) -> None:
    assert rewritten(text) is None


@needs_wordnet
def test_an_article_fits_the_word_behind_it() -> None:
    for variant in range(6):
        text = rewritten("she is a teacher", variant=variant)
        assert text is None or not re.search(r"\ba [aeiou]", text)


@needs_wordnet
def test_seed_and_variant_decide_and_the_part_that_is_replaced_counts() -> None:
    text = "the movie probably happened recently, and the teacher certainly assumed it"

    assert rewritten(text) == rewritten(text)
    assert len({rewritten(text, replaced=0.4, variant=variant) for variant in range(6)}) > 1
    few, many = rewritten(text, replaced=0.1), rewritten(text)
    assert few is not None
    assert many is not None
    changed = [
        sum(a != b for a, b in zip(text.split(), other.split(), strict=True))
        for other in (few, many)
    ]
    assert changed[0] == 1 < changed[1]


def test_where_wordnet_is_missing_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="apt-get install wordnet-base") as caught:
        SynonymGenerator(Synonyms(wordnet=str(tmp_path)), seed=0)

    assert caught.value.reason is Reason.ENVIRONMENT_MISSING


@needs_wordnet
def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_text("a b c\n", encoding="utf-8")

    with pytest.raises(BadInputError, match="no database of WordNet"):
        SynonymGenerator(Synonyms(wordnet=str(tmp_path)), seed=0)


@needs_wordnet
def test_another_language_is_refused_and_chat_is_not() -> None:
    generator = SynonymGenerator(Synonyms(), seed=0)
    german = (
        "ich habe gestern meinen rechner neu gestartet und jetzt funktioniert der drucker nicht"
    )
    chat = "lol yeah i dunno, my printer kinda died yesterday and now i cant print anything at all"

    generator.require_language([chat] * 6)
    with pytest.raises(BadInputError, match="which is English, knows"):
        generator.require_language([german] * 6)
