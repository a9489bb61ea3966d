"""`tunesmith explain` and the report's section: no words unless asked for, clear refusals."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_cli.commands.explain import row_as_text, summary_as_text
from tunesmith_cli.main import main
from tunesmith_cli.report.explanation import ExplanationSection
from tunesmith_cli.report.explanation_records import ExplainFacts, ExplanationsFile
from tunesmith_cli.report.job_data import JobData
from tunesmith_engine.stages.contracts import StageResult

AREA = {"value": 0.5, "random": 0.2, "beats": 1.0}
ROW: dict[str, Any] = {
    "row": 3, "source": "tickets.jsonl:7", "loss": 2.5, "unitKind": "words", "value": -2.5,
    "withoutUnits": -4.0, "answer": "Restart it.", "passes": 40,
    "units": [
        {"text": "printer", "role": "user", "turn": 2, "place": 1},
        {"text": "off", "role": "user", "turn": 2, "place": 2},
    ],
    "methods": [
        {"method": "shap", "estimator": "exact", "scores": [1.25, -0.5], "deletion": AREA,
         "insertion": AREA, "stability": None},
    ],
}  # fmt: skip
SUMMARY: dict[str, Any] = {
    "rows": 1, "passes": 40, "skipped": {"no prompt": 1}, "showText": False,
    "global": {"rows": 5, "places": [
        {"place": "last turn, user, end", "rows": 5, "effect": 0.3, "standardError": 0.1},
    ]},
    "methods": [
        {"method": "shap", "deletionArea": 0.5, "deletionRandom": 0.2, "deletionBeats": 1.0,
         "insertionArea": 0.4, "insertionRandom": 0.1, "insertionBeats": 0.75, "stability": 0.9},
    ],
}  # fmt: skip
WORDS = [{"word": "printer", "rows": 4, "effect": 0.7, "standardError": 0.2}]


def section(*, show_text: bool) -> ExplanationSection:
    result = StageResult(
        stage="explain", key="1" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        facts={**SUMMARY, "showText": show_text},
    )  # fmt: skip
    found = ExplanationsFile.model_validate(
        {"rows": [ROW], "global": {**SUMMARY["global"], "words": WORDS}}
    )
    job = JobData(
        name="helpdesk", status=FineTuneJobStatus(), results={"explain": result}, explanations=found
    )
    return ExplanationSection(job)


def test_the_report_shows_words_only_where_the_spec_asks() -> None:
    without, with_ = section(show_text=False), section(show_text=True)

    assert without.words is None
    assert without.rows[0].rows == [("user, turn 2, 1", "+1.250"), ("user, turn 2, 2", "-0.500")]
    assert with_.rows[0].rows[0] == ("printer", "+1.250")
    assert with_.words is not None
    assert with_.words.rows[0][0] == "printer"


def test_every_method_stands_beside_random_orders() -> None:
    methods = section(show_text=False).methods

    assert methods is not None
    assert methods.rows == [("SHAP", "0.5", "0.2", "100.0 %", "0.4", "0.1", "75.0 %", "0.9")]
    assert "1 row could not be explained" in section(show_text=False).about


def test_facts_of_another_release_are_shown_as_far_as_they_go() -> None:
    assert ExplainFacts.model_validate({"later": 1}).methods == []


def test_a_row_is_shown_with_its_words_or_their_places() -> None:
    assert "printer" in row_as_text(ROW, shows_words=True)
    told = row_as_text(ROW, shows_words=False)
    assert "printer" not in told
    assert "user, turn 2, 1" in told


def test_the_summary_names_rows_and_places() -> None:
    told = summary_as_text({"rows": [ROW], "global": SUMMARY["global"], "summary": SUMMARY})

    assert "1 row explained with 40 forward passes" in told
    assert "last turn, user, end" in told
    assert "tickets.jsonl:7" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no job 'nothing'"),
        (["nothing", "some text"], "no job 'nothing'"),
        (["nothing", "text", "--row", "1"], "--row: given with a text"),
        (["nothing", "--answer", "x"], "--answer: given without a text"),
        (["nothing", "--show"], "--show: given without a text or a row"),
    ],
)
def test_what_says_nothing_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments, "--home", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
