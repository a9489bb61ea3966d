"""What is observed of a request, whatever somebody writes into it."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_engine.drift.scripts import SCRIPTS, script_of
from tunesmith_engine.drift.signals import MAX_CHARACTERS, SIGNALS, measure, prompt_of
from tunesmith_engine.drift.words import buckets_of, repeated_share, words_of

NUM_BINS = {signal.name: signal.num_bins for signal in SIGNALS}
PROMPT = "My printer prints nothing since yesterday."
ANSWER = "Turn it off and on again, then look whether its cable is plugged in."


def words(number: int) -> str:
    return "".join(f"word{n} " for n in range(number))


def test_signals_have_names_of_their_own_and_few_bins() -> None:
    assert len(NUM_BINS) == len(SIGNALS)
    assert all(2 <= signal.num_bins <= 64 for signal in SIGNALS if not signal.is_multiple)


def test_a_request_has_a_bin_in_every_signal() -> None:
    bins = measure(
        PROMPT,
        ANSWER,
        prompt_tokens=12,
        output_tokens=16,
        finish_reason="stop",
        mean_logprob=-0.6,
        mean_entropy=1.3,
    )

    assert bins.keys() == NUM_BINS.keys()
    assert (bins["outputTokens"], bins["logprob"], bins["entropy"]) == (9, 2, 5)


def test_what_was_not_observed_has_no_bin() -> None:
    assert measure(None, None) == {}
    assert measure("", "") == {}
    assert measure("?!", None) == {"promptScript": SCRIPTS.index("none")}


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words", "latin"),
        ("¿Por qué no imprime el ordenador?", "latinWithMarks"),
        ("Naïve people print with the printer at home, and on Sundays with the other.", "latin"),
        ("Не работает принтер", "cyrillic"),
        ("打印机不工作", "han"),
        ("プリンターがうごきません", "kana"),
        ("프린터가 작동하지 않습니다", "hangul"),
        ("الطابعة لا تعمل", "arabic"),
        ("प्रिंटर काम नहीं करता", "indic"),
        ("1 + 2 = 3 🙂", "none"),
        ("", "none"),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    assert SCRIPTS[script_of(text)] == script


@pytest.mark.parametrize(
    ("answer", "arguments", "kind"),
    [
        ("Words.", None, 0),
        ('{"a": [1]}', None, 1),
        ('```json\n{"a": 1}\n```', None, 1),
        ('{"a": ', None, 2),
        ('{"a": "' + "x" * MAX_CHARACTERS, None, 3),
        (None, '{"city": "Bern"}', 4),
        (None, "", 4),
        (None, '{"city": ', 5),
        ("[" * 3000, None, 2),
    ],
)
def test_the_format_tells_valid_json_from_broken(
    answer: str | None, arguments: str | None, kind: int
) -> None:
    assert measure(None, answer, tool_arguments=arguments)["answerFormat"] == kind


def test_the_same_words_have_the_same_buckets_wherever_they_stand() -> None:
    first, second = words_of("the invoice was wrong"), words_of("Wrong was the invoice! Invoice!")

    assert buckets_of(first) == buckets_of(second)
    # Short words, which every text has, are left out where there are others.
    assert len(buckets_of(first)) == 2
    assert len(buckets_of(words_of("so it is"))) == 3
    assert buckets_of([]) == ()


def test_an_answer_that_turns_in_circles_is_repeated() -> None:
    assert repeated_share(words_of(ANSWER)) == 0
    assert repeated_share(words_of("and so on " * 50)) == pytest.approx(1 - 3 / 147)
    assert repeated_share(words_of("too short")) is None


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "system", "content": "Help."}, {"role": "user", "content": "Why?"}], "Why?"),
        (
            [
                {"role": "user", "content": "First"},
                {"role": "assistant", "content": "Answer"},
                {"role": "user", "content": [{"type": "text", "text": "Second"}, {"type": "x"}]},
            ],
            "Second",
        ),
        ([{"role": "system", "content": "Help."}], "Help."),
        ([{"role": "user", "content": None}, "no message", {"content": "no role"}, 7], None),
        ([], None),
    ],
)
def test_the_prompt_is_what_was_said_last(messages: list[Any], prompt: str | None) -> None:
    assert prompt_of(messages) == prompt


@pytest.mark.parametrize(
    "flood",
    [
        lambda: "a" * 5_000_000,
        lambda: "\u200b" * 5_000_000,
        lambda: "[" * 5_000_000,
        lambda: "a " * 2_500_000,
        lambda: "e\u0301\u0301" * 1_000_000,
        lambda: "ﷺ" * 1_000_000,
        lambda: "İ" * 1_000_000,
        lambda: "\ud800" * 1_000_000,
        lambda: "{" + '"a":{' * 1_000_000,
        lambda: words(500_000),
    ],
)
def test_of_megabytes_the_first_characters_are_read(flood: Callable[[], str]) -> None:
    text = flood()
    started = time.process_time()

    bins = measure(
        text,
        text,
        tool_arguments=text,
    )

    # A hundred times what an ordinary request takes, for this machine may be busy.
    assert time.process_time() - started < 0.1
    assert bins == measure(text[:MAX_CHARACTERS], text[:MAX_CHARACTERS],
                           tool_arguments=text[:MAX_CHARACTERS])  # fmt: skip


@given(
    prompt=st.text(st.characters()),
    answer=st.text(st.characters()),
    tokens=st.integers(),
    logprob=st.floats(),
)
def test_whatever_is_written_has_bins_that_there_are(
    prompt: str, answer: str, tokens: int, logprob: float
) -> None:
    bins = measure(
        prompt,
        answer,
        prompt_tokens=tokens,
        output_tokens=tokens,
        finish_reason=answer,
        tool_arguments=prompt,
        mean_logprob=logprob,
        mean_entropy=logprob,
    )

    for name, observed in bins.items():
        numbers = observed if isinstance(observed, tuple) else (observed,)
        assert all(0 <= number < NUM_BINS[name] for number in numbers)
