"""What no other words may stand for, and how alike two texts are."""

import pytest

from tunesmith_trainer.augment.meaning import kept_parts, says_the_same, similarity


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("pay 1,200.50 EUR by 2026-11-28", ["1,200.50", "EUR", "2026-11-28"]),
        ("run `rm -rf x` or my_tool --help", ["`rm -rf x`", "my_tool"]),
        ("see https://a.example/b?c=1, please", ["https://a.example/b?c=1"]),
        ("mail jo@example.org about report.pdf", ["jo@example.org", "report.pdf"]),
        ("open /etc/hosts and ~/.ssh/config", ["/etc/hosts", "~/.ssh/config"]),
        ('she said "come in" to us', ['"come in"']),
        ("I don't know, and cannot say", ["n't", "cannot"]),
        ("dear {name}, <|im_end|> <b>", ["{name}", "<|im_end|>", "<b>"]),
        ("I like Puerto Rico. Everybody does", ["Puerto", "Rico"]),
        ("no sé nada de eso", ["no", "nada"]),
        ("what I said", []),
    ],
)
def test_what_stays_is_found(text: str, kept: list[str]) -> None:
    assert [part.words for part in kept_parts(text)] == kept


@pytest.mark.parametrize(
    ("text", "other", "verdict"),
    [
        ("My printer does not print", "My printer doesn't print", True),
        ("My printer does not print", "My printer does print", False),
        ("Call me at 5 pm", "Call me at 6 pm", False),
        ("I met Ann in town", "I met Bob in town", False),
        ("Send it to me", "Send it to me <|im_end|>", False),
        ("The screen is black", "A wholly unlike sentence", False),
    ],
)
def test_children_that_say_something_else_are_thrown_out(
    text: str, other: str, *, verdict: bool
) -> None:
    assert says_the_same(text, other, min_similarity=0.5) is verdict


def test_a_text_is_most_like_itself() -> None:
    assert similarity("abc def", "abc def") == pytest.approx(1.0)
    assert similarity("abc def", "xyz") == pytest.approx(0.0, abs=0.01)
