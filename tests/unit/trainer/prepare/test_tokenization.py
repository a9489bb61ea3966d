"""Rows that are too long lose the oldest of their prompt, and nothing of their answers.

Of many rows several processes make what one would.
"""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from prepare_stage import SilentReporter
from small_models import make_tiny_tokenizer
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.chat_template import ChatTemplate
from tunesmith_trainer.data.loss_mask import LossMasker, TokenRow
from tunesmith_trainer.data.rows import Message, Problems, Row
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare import tokenization
from tunesmith_trainer.prepare.foreign_template import foreign_marks
from tunesmith_trainer.prepare.tokenization import RowTokenizer, truncate_prompt

TOKENIZER = make_tiny_tokenizer()
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def _masked(question: str, answer: str) -> TokenRow:
    turns = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return LossMasker(TOKENIZER).mask_answers(ChatTemplate(TOKENIZER).render(turns))


def test_a_cut_takes_the_oldest_tokens_and_leaves_answer_and_opening() -> None:
    row = _masked("Where are my glasses? " * 9, "On your nose.")

    cut = truncate_prompt(row, longest=40, special=[TOKENIZER.bos_token_id])

    assert cut is not None
    assert len(cut.ids) == 40
    assert cut.ids == row.ids[-40:]
    trained = [token for token, mask in zip(cut.ids, cut.trained, strict=True) if mask]
    assert TOKENIZER.decode(trained) == "On your nose.<|im_end|>"
    start = cut.first_of_last_answer
    assert cut.ids[start : start + len(trained)] == tuple(trained)


def test_an_answer_that_is_too_long_alone_cannot_be_cut() -> None:
    row = _masked("Where are my glasses?", "On your nose. " * 20)

    assert truncate_prompt(row, longest=40, special=[TOKENIZER.bos_token_id]) is None


def _rows(number: int) -> StoredRows[Row]:
    """Every seventh breaks a rule, every ninth is too long."""

    def row(place: int) -> Row:
        said = "Off <|im_end|>" if place % 7 == 3 else f"Off and on, {place} times."
        asked = "Why? " * (60 if place % 9 == 4 else 1)
        return Row(f"a.jsonl:{place}", (Message("user", asked), Message("assistant", said)))

    return StoredRows.of(map(row, range(number)))


def _tokenized(rows: StoredRows[Row], *, processes: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tokenization, "processes_for", lambda _: processes)
    problems = Problems(max_bad_rows=200)
    tokenizer = RowTokenizer(TOKENIZER, longest=100, overlong="drop", problems=problems)
    return list(tokenizer.tokenize(rows, reporter=SilentReporter())), problems.state()


def test_processes_make_what_one_would_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows(700)

    alone = _tokenized(rows, processes=0, monkeypatch=monkeypatch)
    together = _tokenized(rows, processes=2, monkeypatch=monkeypatch)

    assert alone == together
    assert alone[1]["count"] == 100
    assert 400 < len(alone[0]) < 600


def test_what_the_template_does_in_a_process_is_told_as_by_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Only where it stands, so that the first row, which is tokenized here, is as it should be.
    changed = "message['content'] | replace('9 times', 'nine')"
    template = TOKENIZER.chat_template.replace("message['content']", changed)
    monkeypatch.setattr(TOKENIZER, "chat_template", template)

    with caplog.at_level(logging.ERROR), pytest.raises(BadInputError) as raised:
        _tokenized(_rows(300), processes=2, monkeypatch=monkeypatch)

    assert raised.value.message.startswith("a.jsonl:9, 19")
    assert caplog.text.count("is rendered as") == 1
    assert "a.jsonl:9 is rendered as" in caplog.text


def test_a_template_that_never_ends_is_told_after_the_time_of_one_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunesmith_trainer.data.chat_template._LONGEST_S", 0.2)
    rendered: list[Any] = []
    render = ChatTemplate.render

    def counted(template: ChatTemplate, *given: Any, **named: Any) -> Any:
        rendered.append(given)
        return render(template, *given, **named)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    tokenizer = make_tiny_tokenizer()
    # Of rows alone: what is asked of the template before them has other words.
    tokenizer.chat_template = f"{{% if messages[0].content != 'a' %}}{ENDLESS}{{% endif %}}"
    rows = RowTokenizer(tokenizer, longest=64, overlong="drop", problems=Problems())

    with pytest.raises(BadInputError, match="takes more than"):
        rows.tokenize(_rows(20), reporter=SilentReporter())

    assert len(rendered) == 1


@pytest.mark.parametrize("look", [begin_ids, foreign_marks])
def test_what_is_asked_of_a_template_before_any_row_ends_in_time_too(
    look: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith_trainer.data.chat_template._LONGEST_S", 0.2)
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = ENDLESS

    with pytest.raises(BadInputError, match="takes more than"):
        look(tokenizer)
