"""Rows that are too long lose the oldest of their prompt, and nothing of their answers."""

from small_models import make_tiny_tokenizer
from tunesmith_trainer.data.chat_template import ChatTemplate
from tunesmith_trainer.data.loss_mask import LossMasker, TokenRow
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.prepare.tokenization import truncate_prompt

TOKENIZER = make_tiny_tokenizer()


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
