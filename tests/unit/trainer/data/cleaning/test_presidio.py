"""What Presidio finds beside the built-in recognisers.

Most of it needs the extra `presidio` beside the trainer, which no lock has: in an environment of
its own, `uv pip install '.[trainer,presidio,test]'`.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.cleaning import Cleaning, PersonalData
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.cleaner import HeldOut, clean
from tunesmith_trainer.data.cleaning.presidio import require_presidio
from tunesmith_trainer.data.rows import Message, Problems, Row

HAS_PRESIDIO = importlib.util.find_spec("presidio_analyzer") is not None
needs_presidio = pytest.mark.skipif(not HAS_PRESIDIO, reason="needs the extra presidio")


def settings(**presidio: Any) -> PersonalData:
    return PersonalData.model_validate({"policy": "mask", "presidio": presidio})


def masked(text: str, **presidio: Any) -> tuple[str, list[tuple[str, ...]]]:
    """A prompt after cleaning, and the kinds that were found in it."""
    rows = [Row("a.jsonl:1", (Message("user", text), Message("assistant", "Thank you.")))]
    left, found = clean(
        rows,
        cleaning=Cleaning(personal_data=settings(**presidio)),
        split="train",
        problems=Problems(),
        held_out=HeldOut([], []),
    )
    kinds = [each.kinds for each in found if each.rule == "personalData"]
    return left[0].messages[0].content, kinds


@pytest.mark.skipif(HAS_PRESIDIO, reason="the extra presidio is here")
def test_without_the_package_its_extra_is_named() -> None:
    with pytest.raises(BadInputError, match=r"pip install 'tunesmith\[presidio\]'"):
        require_presidio(settings(entities=["US_SSN"]))


def test_nothing_is_needed_where_nobody_looks() -> None:
    require_presidio(PersonalData())
    keeping = settings(entities=["US_SSN"]).model_copy(update={"policy": "keep"})
    require_presidio(keeping)


@needs_presidio
def test_what_the_built_in_recognisers_do_not_know_is_masked() -> None:
    text, kinds = masked(
        "My social security number is 536-90-4399, my mail ann@corp.de.", entities=["US_SSN"]
    )

    assert text == "My social security number is [US_SSN], my mail [EMAIL]."
    assert kinds == [("email", "usSsn")]


@needs_presidio
def test_a_weak_form_takes_a_word_near_it() -> None:
    entities = ["US_PASSPORT"]

    assert masked("The order is 912803456.", entities=entities)[1] == []
    assert masked("My passport is 912803456.", entities=entities)[1] == [("usPassport",)]
    assert masked("The order is 912803456.", entities=entities, minScore=0.01)[1] != []


@needs_presidio
def test_what_the_built_in_recognisers_found_is_theirs() -> None:
    text, kinds = masked("mail ann@corp.de", entities=["EMAIL_ADDRESS", "URL"])

    assert (text, kinds) == ("mail [EMAIL]", [("email",)])


@needs_presidio
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"entities": ["PERSON"]}, "given PERSON, which Presidio finds in no text of the language"),
        ({"entities": ["US_SSN", "SHOE_SIZE"]}, "given SHOE_SIZE"),
        ({"entities": ["US_SSN"], "pipeline": "en_not_here"}, "pipeline: given en_not_here"),
    ],
)
def test_what_nothing_here_can_find_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        require_presidio(settings(**asked))


@needs_presidio
def test_a_pipeline_finds_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spacy

    package = tmp_path / "en_few_names"
    package.mkdir()
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Maria Schmidt"}])
    pipeline.to_disk(package / "pipeline")
    (package / "__init__.py").write_text(
        "import pathlib, spacy\n"
        "def load(**overrides):\n"
        "    return spacy.load(pathlib.Path(__file__).parent / 'pipeline', **overrides)\n"
    )
    metadata = tmp_path / "en_few_names-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: en_few_names\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    text, kinds = masked(
        "I am Maria Schmidt.", entities=["PERSON"], pipeline="en_few_names", minScore=0.5
    )

    assert (text, kinds) == ("I am [PERSON].", [("person",)])


@needs_presidio
def test_a_text_longer_than_spacy_takes_is_searched() -> None:
    text = f"{'x' * 4999} " * 201 + "my social security number is 536-90-4399"

    assert masked(text, entities=["US_SSN"])[1] == [("usSsn",)]
