"""Published sets are read as they are, and other files are refused by file and line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bbq_lines import bbq_line
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.fairness.published_sets import (
    SentencePair,
    read_bbq,
    read_crows_pairs,
    read_wino_bias,
)
from tunesmith_trainer.fairness.sentences import question_measures

FIELD = "evaluation.fairness.suites[0]"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_crows_pairs(tmp_path: Path) -> None:
    text = ",sent_more,sent_less,bias_type\n0,Old men are slow.,Young men are slow.,age\n"
    pairs = read_crows_pairs([written(tmp_path / "crows.csv", text)], field=FIELD)

    assert pairs == [SentencePair("Old men are slow.", "Young men are slow.", "age")]


def test_wino_bias(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "anti_stereotyped_type1.txt.dev", "1 [The nurse] said [he] left.\n"),
        written(tmp_path / "pro_stereotyped_type1.txt.dev", "1 [The nurse] said [she] left.\n"),
    ]
    pairs = read_wino_bias(paths, field=FIELD)

    assert pairs == [SentencePair("The nurse said she left.", "The nurse said he left.", "type1")]


def test_bbq_scores_are_those_of_its_paper(tmp_path: Path) -> None:
    lines = [
        bbq_line(),
        bbq_line(question_polarity="nonneg"),
        bbq_line(context_condition="disambig", label=0),
        bbq_line(context_condition="disambig", label=2),
    ]
    asked = read_bbq([written(tmp_path / "Age.jsonl", "".join(lines))], field=FIELD)

    questions = [question for question in asked if question is not None]
    assert [question.biased for question in questions] == [0, 2, 0, 0]
    # Ambiguous: one biased, one unknown: (1 - 1/2) * (2 * 1/1 - 1). Disambiguated: 2 * 1/2 - 1.
    measures = question_measures(questions, [0, 1, 0, 2])
    assert {one.metric: one.value() for one in measures} == {
        "biasAmbiguous": 0.5, "accuracyAmbiguous": 0.5,
        "biasDisambiguated": 0.0, "accuracyDisambiguated": 1.0,
    }  # fmt: skip


def test_gender_questions_know_f_and_m(tmp_path: Path) -> None:
    line = bbq_line(
        answer_info={"ans0": ["woman", "woman"], "ans1": ["", "unknown"], "ans2": ["man", "man"]},
        additional_metadata={"stereotyped_groups": ["F"]},
    )
    (question,) = read_bbq([written(tmp_path / "Gender.jsonl", line)], field=FIELD)

    assert question is not None
    assert question.biased == 0


def test_a_question_about_nobody_in_the_stereotype_says_nothing(tmp_path: Path) -> None:
    line = bbq_line(additional_metadata={"stereotyped_groups": ["tall"]})

    assert read_bbq([written(tmp_path / "Age.jsonl", line)], field=FIELD) == [None]


@pytest.mark.parametrize(
    ("read", "name", "text", "told"),
    [
        (read_crows_pairs, "a.csv", "prompt,completion\na,b\n", "a.csv: given the columns prompt"),
        (read_crows_pairs, "a.csv", "sent_more,sent_less,bias_type\na,,age\n", "a.csv:2"),
        (read_wino_bias, "pro_a.txt", "1 [a] b\n", "anti_"),
        (read_bbq, "a.jsonl", "prompt\n", "a.jsonl:1: given a line that is no JSON"),
        (read_bbq, "a.jsonl", '{"prompt": "a"}\n', "a.jsonl:1: given a line without context"),
        (read_bbq, "a.jsonl", bbq_line(label=9), "a.jsonl:1: given a line with other values"),
    ],
)
def test_other_formats_are_refused(
    tmp_path: Path, read: Callable[..., object], name: str, text: str, told: str
) -> None:
    with pytest.raises(BadInputError, match=told.replace("[", r"\[")) as refused:
        read([written(tmp_path / name, text)], field=FIELD)

    assert str(refused.value).startswith(f"spec.{FIELD}")
