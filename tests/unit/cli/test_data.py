"""`tunesmith data`: which rows would go and why, and nothing of what they say unless asked."""

import json
from pathlib import Path

import pytest

from tunesmith_cli.commands.data import preview_as_text
from tunesmith_cli.main import main
from tunesmith_engine.local.cleaning_preview import CleaningPreview
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.stages.contracts import Environment

ROOT = Path(__file__).parents[3]
SECRET = "AKIAIOSFODNN7EXAMPLE"
ROWS = [
    {"prompt": "Where is the key for the store?", "completion": f"It is {SECRET}, never tell it."},
    {"prompt": "Which printer do I take today?", "completion": "The one on the second floor."},
    {"prompt": "Which printer do  I take today?", "completion": "The one on the second floor. "},
    {"prompt": "Who was it that called me?", "completion": "It wasnâ€™t me."},
]
MANIFEST = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: desk}
spec:
  model: {uri: "hf://a/b"}
  dataset:
    train: {uri: "file://rows.jsonl"}
    cleaning: {secrets: POLICY}
  output: {model: desk}
"""


@pytest.fixture(autouse=True)
def _trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer's environment with the packages of this tree."""
    installed = Environments.discover().python(Environment.TRAINER)
    python = tmp_path / "environments/trainer/bin/python"
    python.parent.mkdir(parents=True)
    roots = ":".join(str(ROOT / name) for name in ("operator", "trainer"))
    # The first argument is -I, which would take no notice of the path.
    python.write_text(
        f'#!/bin/sh\nshift\nPYTHONPATH={roots} exec {installed} "$@"\n', encoding="utf-8"
    )
    python.chmod(0o755)
    monkeypatch.setenv("TUNESMITH_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")


def _manifest(policy: str) -> str:
    Path("job.yaml").write_text(MANIFEST.replace("POLICY", policy), encoding="utf-8")
    return "job.yaml"


def test_a_file_of_data_is_cleaned_with_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "rows.jsonl"]) == 0

    told = capsys.readouterr().out
    assert "4 rows of promptCompletion; 3 would be left" in told
    assert [line.split()[:3] for line in told.splitlines()[3:]] == [
        ["repair.mojibake", "mended", "1"],
        ["exactDuplicates", "goes", "1"],
        ["secrets", "stays", "1"],
    ]
    assert "rows.jsonl:3 = rows.jsonl:2" in told
    assert SECRET not in told


def test_rows_are_shown_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "rows.jsonl", "--show"]) == 0

    assert SECRET in capsys.readouterr().out


def test_a_manifest_says_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", _manifest("remove"), "--output", "json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["read"], told["left"]) == ({"train": 4}, {"train": 2})
    secrets = next(rule for rule in told["rules"] if rule["rule"] == "secrets")
    assert secrets["action"] == "removed"
    assert [row["row"] for row in secrets["rows"]] == ["rows.jsonl:1"]
    assert "texts" not in told


def test_what_takes_the_base_model_is_said_to_be_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = _manifest("warn")
    text = Path(manifest).read_text(encoding="utf-8")
    asked = text.replace("cleaning: {", "cleaning: {unlikelyAnswers: {policy: remove}, ")
    Path(manifest).write_text(asked, encoding="utf-8")

    assert main(["data", manifest, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["notJudged"] == ["unlikelyAnswers"]
    preview = CleaningPreview({"train": 2}, {"train": 2}, [], not_judged=["unlikelyAnswers"])
    assert "before unlikelyAnswers: that takes the base model" in preview_as_text(preview)


def test_data_that_a_policy_refuses_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", _manifest("fail")]) == 2

    said = capsys.readouterr().err
    assert "rows.jsonl:1: given secret; dataset.cleaning.secrets is fail" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("odd.jsonl", '{"frage": "a", "antwort": "b"}\n', "no format has these fields"),
        ("odd.jsonl", "\x00\x01\x02", "odd.jsonl:1"),
    ],
)
def test_data_that_cannot_be_read_is_bad_input(
    name: str, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text(content, encoding="utf-8")

    assert main(["data", name]) == 2
    assert said in capsys.readouterr().err


def test_what_is_neither_file_nor_job_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "nothing"]) == 2
    assert "no job 'nothing'" in capsys.readouterr().err
