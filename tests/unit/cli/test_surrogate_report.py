"""Simpler models of the model in the report: named, explained, and without words unless asked."""

from types import SimpleNamespace
from typing import Any

from tunesmith_cli.report.artifacts import HighlightsRecord
from tunesmith_cli.report.explanation import ExplanationSection
from tunesmith_cli.report.explanation_records import ExplainFacts, ExplanationsFile
from tunesmith_cli.report.highlights import HighlightsTable

RULES = "|--- password <= 0.50\n|   |--- class: 1\n"
WORDS = [{"word": f"word{n}", "weight": 1.0 / (n + 1)} for n in range(20)]
FITTED: dict[str, Any] = {"fidelity": 0.8, "interval": [0.7, 0.9], "constant": 0.4, "numWords": 31}
MODELS = [
    {"model": "sparseLinear", **FITTED, "occlusionRank": 0.44, "words": WORDS},
    {"model": "tree", **FITTED, "occlusionRank": None, "words": WORDS[:1], "rules": RULES},
]
SURROGATE = {"metric": "r2", "fittedRows": 256, "judgedRows": 255, "models": MODELS}


def section(surrogate: dict[str, Any], *, show_text: bool) -> ExplanationSection:
    job: Any = SimpleNamespace(
        explain=ExplainFacts.model_validate({"surrogate": surrogate, "showText": show_text}),
        explanations=ExplanationsFile.model_validate({"surrogate": surrogate}),
    )
    return ExplanationSection(job)


def test_simpler_models_have_names_and_the_page_says_what_they_are() -> None:
    shown = section(SURROGATE, show_text=True)

    assert shown.surrogates is not None
    assert shown.surrogates.head[:2] == ("surrogate", "R²")
    assert [row[0] for row in shown.surrogates.rows] == ["sparse linear model", "decision tree"]
    assert shown.surrogates.rows[0][-1].split(", ")[-1] == "word7 0.12"
    assert shown.surrogates.rows[1][5] == "–"
    assert (
        "fitted to what the model decides of 256 rows and judged on 255" in shown.about_surrogates
    )
    assert shown.rules == RULES.rstrip()


def test_no_word_is_shown_that_the_job_does_not_ask_for() -> None:
    shown = section(SURROGATE, show_text=False)

    assert shown.surrogates is not None
    assert "most weight" not in shown.surrogates.head
    assert {len(row) for row in shown.surrogates.rows} == {len(shown.surrogates.head)}
    assert shown.rules == ""


def test_why_there_is_none_is_told() -> None:
    none = {"metric": "agreement", "models": [], "reason": "no word stands in two rows"}
    shown = section(none, show_text=True)

    assert shown.surrogates is None
    assert shown.about_surrogates.endswith("was fitted: no word stands in two rows.")


def test_what_lies_on_highlights_is_a_row_for_each_model() -> None:
    tuned = HighlightsRecord(
        share=0.61, interval=(0.55, 0.66), base=0.2, change=(0.3, 0.5), chance=0.125, rows=100
    )
    table = HighlightsTable(tuned, HighlightsRecord(share=0.6)).table

    assert table is not None
    assert table.rows[0] == (
        "tuned, before: the base", "61.0 %", "55.0 % – 66.0 %", "20.0 %", "+0.300 – +0.500: more",
        "12.5 %", "100",
    )  # fmt: skip
    assert table.rows[1][4] == "too few rows to tell"
    assert HighlightsTable(None, None).table is None
