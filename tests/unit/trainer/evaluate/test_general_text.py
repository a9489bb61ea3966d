"""The text of the general suite: the one that ships, and the job's own."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from small_models import CHATML, make_tiny_tokenizer
from tuned_job import request_for
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate import general_text
from tunesmith_trainer.evaluate.general_text import GeneralText, load_general_text
from tunesmith_trainer.models import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(job: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(job / "model")


def text_of(
    job: Path, output: Path, tokenizer: PreTrainedTokenizerBase, *, context_length: int = 512
) -> GeneralText:
    given = output / "given.txt"
    spec: dict[str, Any] = {"generalText": {"uri": given.as_uri()}} if given.exists() else {}
    request = request_for(job, EVALUATE.name, output=output, evaluation=spec)
    return load_general_text(request, tokenizer, context_length=context_length)


def test_the_shipped_text_has_forty_passages_and_each_is_a_row(
    job: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = text_of(job, tmp_path, tokenizer)

    shipped = (
        resources.files(general_text.__package__ or "")
        .joinpath("general_text.txt")
        .read_text("utf-8")
    )
    assert shipped.count("\n\n") == 39
    assert len(found.rows) == 40
    assert found.warnings == []


def test_every_token_but_the_first_of_a_row_is_a_target(
    job: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = text_of(job, tmp_path, tokenizer).rows

    for index in range(len(rows)):
        _, trained = rows.row(index)
        assert not trained[0]
        assert trained[1:].all()


def test_the_text_of_the_manifest_replaces_it(
    job: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "given.txt").write_text("One passage here.\n\n\n\nAnother one there.\n")

    rows = text_of(job, tmp_path, tokenizer).rows

    texts = [tokenizer.decode(rows.row(index)[0]) for index in range(len(rows))]
    assert texts == ["One passage here.", "Another one there."]


def test_a_passage_longer_than_the_context_becomes_several_rows(
    job: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "given.txt").write_text("word " * 100)

    rows = text_of(job, tmp_path, tokenizer, context_length=32).rows

    assert len(rows) > 1
    assert max(len(rows.row(index)[0]) for index in range(len(rows))) <= 32


def test_each_of_them_has_the_begin_token_where_the_model_has_one(
    job: Path, tmp_path: Path
) -> None:
    (tmp_path / "given.txt").write_text("word " * 100)
    tokenizer = make_tiny_tokenizer(chat_template="{{ bos_token }}" + CHATML)
    tokenizer.bos_token = "<|endoftext|>"

    rows = text_of(job, tmp_path, tokenizer, context_length=32).rows

    begins = {int(rows.row(index)[0][0]) for index in range(len(rows))}
    assert begins == {tokenizer.bos_token_id}
    assert max(len(rows.row(index)[0]) for index in range(len(rows))) == 32


def test_a_text_without_words_is_refused(
    job: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "given.txt").write_text("\n\n  \n")

    with pytest.raises(BadInputError, match="no text to score"):
        text_of(job, tmp_path, tokenizer)


def test_a_text_in_another_encoding_is_refused(
    job: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "given.txt").write_bytes(b"caf\xe9")

    with pytest.raises(BadInputError, match="not UTF-8"):
        text_of(job, tmp_path, tokenizer)


def test_a_long_text_is_cut_and_that_is_said(
    job: Path,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(general_text, "MAX_TOKENS", 200)

    found = text_of(job, tmp_path, tokenizer)

    assert len(found.rows) < 40
    assert "is long" in found.warnings[0]
