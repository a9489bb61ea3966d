"""A task's files are data: what would run code, or lies elsewhere, is refused by name."""

from pathlib import Path

import pytest

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.task_files import read_task

FIELD = "evaluation.suites[0]"
TASK = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: data/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks" / "data").mkdir(parents=True)
    (tmp_path / "tasks" / "data" / "rows.jsonl").write_text("{}")
    (tmp_path / "secret.jsonl").write_text("{}")
    return tmp_path / "tasks"


def read(folder: Path, text: str) -> dict[str, object]:
    (folder / "colours.yaml").write_text(text)
    return read_task(folder, "colours", field=FIELD)


def test_data_files_are_found_beside_the_task(folder: Path) -> None:
    settings = read(folder, TASK)

    assert settings["dataset_kwargs"] == {
        "data_files": {"test": [str(folder / "data" / "rows.jsonl")]}
    }


def test_a_file_may_include_another(folder: Path) -> None:
    (folder / "shared.yaml").write_text("num_fewshot: 3\noutput_type: generate_until")

    settings = read(folder, f"include: shared.yaml\n{TASK}")

    assert (settings["num_fewshot"], settings["output_type"]) == (3, "multiple_choice")
    assert "include" not in settings


def test_a_task_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    (folder / "other.yaml").write_text("task: shapes")

    with pytest.raises(BadInputError, match=r"defines the task 'colours'") as caught:
        read_task(folder, "colours", field=FIELD)

    assert caught.value.reason == Reason.DATASET_NOT_FOUND
    assert "other.yaml (task shapes)" in caught.value.message
    assert str(folder) in caught.value.message


def test_a_data_file_that_is_not_there_is_told_with_its_place(folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"rows2\.jsonl") as caught:
        read(folder, TASK.replace("rows.jsonl", "rows2.jsonl"))

    assert caught.value.reason == Reason.DATASET_NOT_FOUND
    assert str(folder / "data" / "rows2.jsonl") in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        "process_docs: !function utils.clean",
        "metric_list: [{metric: acc, aggregation: !function utils.mean}]",
        "doc_to_text: !function os.system",
    ],
)
def test_a_function_is_refused_with_its_place(folder: Path, line: str) -> None:
    (folder / "utils.py").write_text("raise RuntimeError('imported')")

    with pytest.raises(BadInputError, match="would run code") as caught:
        read(folder, TASK.replace('doc_to_text: "{{question}}"', "") + line)

    assert caught.value.reason == Reason.REMOTE_CODE_REFUSED
    assert "!function" in caught.value.message


def test_a_function_in_a_task_that_is_not_asked_for_does_no_harm(folder: Path) -> None:
    (folder / "a.yaml").write_text("task: other\nprocess_docs: !function utils.clean")

    assert read(folder, TASK)["task"] == "colours"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("dataset_path: json", "dataset_path: allenai/ai2_arc", "only local files"),
        ("dataset_path: json", "dataset_path: pandas", "only local files"),
        ("data/rows.jsonl", "../secret.jsonl", r"secret\.jsonl"),
        ("data/rows.jsonl", "https://example.com/rows.jsonl", "no such file"),
        ("test_split: test", "class: Own\ntest_split: test", "the setting class"),
        ("test_split: test", "unsafe_code: true\ntest_split: test", "the setting unsafe_code"),
        ("test_split: test", "generation_kwargs: {custom_generate: a/b}", "custom_generate"),
        ("test_split: test", "metric_list: [{metric: acc, hf_evaluate: true}]", "hf_evaluate"),
        ("test_split: test", "x: !!python/object/apply:os.system [ls]", "line 5 is no YAML"),
        ("{data_files: {test: data/rows.jsonl}}", "{trust_remote_code: true}", "data_files"),
    ],
)
def test_what_reaches_elsewhere_is_refused(folder: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        read(folder, TASK.replace(old, new))


def test_an_include_stays_in_the_folder(folder: Path) -> None:
    (folder.parent / "outside.yaml").write_text("num_fewshot: 3")

    with pytest.raises(BadInputError, match="not a file of its own"):
        read(folder, f"include: ../outside.yaml\n{TASK}")
