"""`tunesmith validate` and `crds`, as users run them: exit codes, streams, one object."""

import io
import json
import sys
from pathlib import Path

import pytest
import yaml

from command import tunesmith
from manifests import a_job, a_version
from tunesmith_api.crds import crd_files, crds_yaml
from tunesmith_cli.inputs import open_manifest
from tunesmith_cli.main import main

BROKEN = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: helpdesk}
spec:
  model: {uri: "hf://a/b"}
  dataset: {train: {uri: "s3://tickets/2026-11.jsonl"}}
  training: {epoch: 3}
  output: {model: helpdesk}
"""


DEPLOYMENT = """\
apiVersion: tunesmith.dev/v1alpha1
kind: ModelDeployment
metadata: {name: helpdesk}
spec:
  model: helpdesk
  rollout: {strategy: blueGreen}
"""


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (yaml.safe_dump(a_job()), 0, "standard input: FineTuneJob helpdesk is valid"),
        (BROKEN, 2, "standard input:7: spec.training.epoch: unknown field"),
    ],
)
def test_a_manifest_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    text: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert main(["validate", "-"]) == code
    assert said in "".join(capsys.readouterr())


def test_relative_uris_of_a_job_from_standard_input_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = yaml.safe_dump(a_job())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    monkeypatch.chdir(tmp_path)

    manifest = open_manifest(Path("-"))

    assert (manifest.text, manifest.base) == (text, tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(yaml.safe_dump(a_job()))
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(BROKEN)
    return path


def test_a_valid_manifest_is_said_to_be_so(good: Path) -> None:
    """The whole command once, as a process."""
    ran = tunesmith("validate", good)

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout == f"{good}: FineTuneJob helpdesk is valid\n"


def test_accelerators_that_this_machine_lacks_are_noted_and_refused_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no driver here
    path = tmp_path / "gpus.yaml"
    path.write_text(yaml.safe_dump(a_job(resources={"workers": 2, "gpusPerWorker": 1})))

    noted, told = main(["validate", str(path)]), capsys.readouterr()
    refused, problem = main(["validate", str(path), "--here"]), capsys.readouterr()

    assert (noted, refused) == (0, 2)
    assert "is valid" in told.out
    assert "note: " in told.err
    assert "spec.resources.gpusPerWorker: 2 workers ask for 2 of nvidia.com/gpu" in problem.err


def test_a_problem_names_file_line_field_and_remedy(
    bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["validate", str(bad)])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    message = "unknown field; did you mean 'epochs'?"
    assert captured.err == f"error: {bad}:7: spec.training.epoch: {message}\n"


def test_one_bad_file_does_not_hide_the_others(
    good: Path, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["validate", str(bad), str(good), str(tmp_path / "none.yaml"), "--output", "json"])

    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert code == 2
    assert printed["valid"] is False
    assert [file["valid"] for file in printed["files"]] == [False, True, False]
    assert printed["files"][0]["problems"] == [
        {
            "path": "spec.training.epoch",
            "line": 7,
            "message": "unknown field; did you mean 'epochs'?",
        }
    ]
    assert captured.err.count("error: ") == 2


def test_every_kind_is_checked_by_its_own_rules(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version, deployment = tmp_path / "version.yaml", tmp_path / "deployment.yaml"
    version.write_text(yaml.safe_dump(a_version()))
    deployment.write_text(DEPLOYMENT)

    code = main(["validate", str(good), str(version), str(deployment), "--output", "json"])

    files = json.loads(capsys.readouterr().out)["files"]
    told = [(file["kind"], file["name"]) for file in files]
    assert code == 0
    assert told == [
        ("FineTuneJob", "helpdesk"),
        ("ModelVersion", a_version()["metadata"]["name"]),
        ("ModelDeployment", "helpdesk"),
    ]


@pytest.mark.parametrize(
    ("given", "written", "problem"),
    [
        ("blueGreen", "bluegreen", "6: spec.rollout.strategy: 'bluegreen' is none of canary, "),
        (
            "strategy: blueGreen",
            "analysis: {metrics: {ttftP50: {minEffect: 0.1}}}",
            "6: spec.rollout.analysis.metrics.ttftP50.minEffect: unknown field; did you mean 'min",
        ),
        (
            "strategy: blueGreen",
            "analysis: {metrics: {errors: {x: 1}}}",
            "unknown field; known here: minimumEffect, tolerated, weight, bound",
        ),
        ("model:", "modell:", "5: spec.modell: unknown field; did you mean 'model'?"),
        ("ModelDeployment", "ModelDeploy", "2: kind: 'ModelDeploy' is none of FineTuneJob, "),
        ("ModelDeployment", "modeldeployment", "did you mean 'ModelDeployment'?"),
        ("ModelDeployment", "Pod", "'Pod' is none of FineTuneJob, ModelVersion, ModelDeployment; "),
        (
            "kind: ModelDeployment\n",
            "",
            "kind: required, but not given; write one of FineTuneJob, ",
        ),
        ("v1alpha1", "v1", "1: apiVersion: 'tunesmith.dev/v1' is not tunesmith.dev/v1alpha1; "),
    ],
)
def test_a_problem_of_another_kind_is_told_as_clearly(
    given: str, written: str, problem: str, bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.write_text(DEPLOYMENT.replace(given, written, 1))

    code = main(["validate", str(bad)])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert problem in captured.err


def test_several_documents_in_one_file_are_refused(
    bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.write_text(f"{DEPLOYMENT}---\n{DEPLOYMENT}")

    code = main(["validate", str(bad)])

    assert code == 2
    assert capsys.readouterr().err.startswith(f"error: {bad}:")


def test_crds_prints_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crds"]) == 0

    assert capsys.readouterr().out == crds_yaml()


def test_crds_writes_a_file_for_each_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crds", "--directory", str(tmp_path / "new")]) == 0

    written = {path.name: path.read_text() for path in (tmp_path / "new").iterdir()}
    assert written == crd_files()
    assert len(capsys.readouterr().out.splitlines()) == len(written)


def test_a_folder_that_cannot_be_written_is_an_error_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    code = main(["crds", "--directory", str(tmp_path / "file")])

    assert code == 2
    assert capsys.readouterr().err.startswith("error: ")
