"""`tunesmith judge replay`: exit codes, the table, one object, and bad files."""

import json
from pathlib import Path
from typing import Any

import pytest

from rollouts import SECONDS, a_rollout, limits_of
from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_cli.main import main
from tunesmith_engine.rollout.recording import Header, line_of


def a_recording(folder: Path, **rollout: Any) -> Path:
    path = folder / "rollout.jsonl"
    header = Header(
        tunesmith="0.1.0",
        stable="helpdesk@1a2b",
        candidate="helpdesk@3c4d",
        limits=limits_of(Metric.ERRORS, Metric.TTFT_P50),
        ended_seconds=SECONDS,
    )
    path.write_text(
        "\n".join([line_of(header), *(line_of(sample) for sample in a_rollout(**rollout))]) + "\n"
    )
    return path


@pytest.mark.parametrize(
    ("rollout", "code", "said"),
    [
        ({}, 0, "promote after"),
        ({"slowdown": 1.5}, 1, "the candidate is worse, most clearly in ttftP50"),
        ({"num": 150}, 3, "the deadline is over; "),
        ({"num": 0}, 3, "the deadline is over; errors has shown nothing to go by"),
    ],
)
def test_the_exit_code_is_the_verdict(
    rollout: dict[str, Any],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = a_recording(tmp_path, **rollout)

    assert main(["judge", "replay", str(path)]) == code

    captured = capsys.readouterr()
    assert said in captured.out.splitlines()[-1]
    assert captured.err == ""


def test_the_course_of_the_metric_that_decided_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["judge", "replay", str(a_recording(tmp_path, slowdown=1.5))])

    title, course, evidence, _ = capsys.readouterr().out.split("\n\n")
    assert title == "helpdesk@3c4d against helpdesk@1a2b, 3,000 requests"
    assert course.split()[0] == "ttftP50"
    assert [line.split()[-1] for line in course.splitlines()[1:-1]] == ["-"] * (
        len(course.splitlines()) - 2
    )
    assert course.splitlines()[-1].endswith("rollback")
    assert [line.split()[0] for line in evidence.splitlines()] == ["metric", "errors", "ttftP50"]


def test_json_holds_verdict_course_and_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["judge", "replay", str(a_recording(tmp_path)), "--output", "json"])

    replay = json.loads(capsys.readouterr().out)
    assert replay["verdict"]["decision"] == "promote"
    assert replay["verdict"] == replay["course"][-1]
    assert replay["limits"]["alpha"] == 0.05
    assert [seen["metric"] for seen in replay["verdict"]["evidence"]] == ["errors", "ttftP50"]


def test_a_bad_file_is_refused_with_line_rule_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_recording(tmp_path, num=3)
    path.write_text(path.read_text() + '{"arm": "stable"}\n')

    assert main(["judge", "replay", str(path)]) == 2

    assert capsys.readouterr().err == (f"error: {path}, line 5: timeSeconds is required; add it\n")


def test_a_file_that_is_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rollout.jsonl"
    path.write_bytes(b"\x80\x81")

    assert main(["judge", "replay", str(path)]) == 2

    assert "is no text in UTF-8" in capsys.readouterr().err
