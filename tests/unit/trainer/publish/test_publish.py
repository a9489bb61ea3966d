"""publish to folders: whole or not at all, once for the same content, never over another."""

import errno
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests import DEFAULT_STAGES
from planted_strings import HELD_OUT, contents_below, leaks
from tunesmith_api.finetunejob.search import Parameter, Search
from tunesmith_api.modelversion import ModelVersion
from tunesmith_api.reasons import Reason
from tunesmith_engine.search_memory.recall import Recalled
from tunesmith_engine.sources import local_target
from tunesmith_engine.stages.catalog import CATALOG, EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import digest_file, files_below
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.publish.stage import publish
from tunesmith_trainer.search.cluster_memory import recall_from_store
from verified_job import SilentReporter, make_verified_job, publish_request

_RATES = Parameter(field="training.optimizer.learningRate", values=[0.001, 0.01])


def published(root: Path, *, attempt: str = "first", **spec: Any) -> StageOutcome:
    request = publish_request(root, output=root / "jobs" / attempt / "artifacts", **spec)
    return publish(request, SilentReporter())


def versions_of(root: Path) -> list[Path]:
    return sorted(path for path in (root / "models" / "tickets").iterdir() if path.is_dir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_verified_job(tmp_path / "job")


def test_a_version_has_everything_that_is_known_about_it(root: Path) -> None:
    published(root)

    (version,) = versions_of(root)
    assert {path.name for path in version.iterdir()} == {
        "README.md", "chat_template.jinja", "config.json", "data-card.json", "evaluation.json",
        "fingerprints.json", "lineage.json", "manifest.json", "model-version.yaml",
        "model.safetensors", "parity.json", "reference-statistics.json", "sbom.cdx.json",
        "serving.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_every_document_that_the_catalogue_publishes_is_in_the_version(root: Path) -> None:
    published(root)

    (version,) = versions_of(root)
    for name in DEFAULT_STAGES:
        for document in CATALOG[name].published:
            if document.is_optional:
                continue
            written = root / name / f"{document.artifact}.json"
            assert (version / document.file).read_bytes() == written.read_bytes()


def test_the_manifest_lists_every_file_but_itself_with_its_digest(root: Path) -> None:
    published(root)

    (version,) = versions_of(root)
    manifest = json.loads((version / "manifest.json").read_text())["files"]
    found = {path.relative_to(version).as_posix(): path for path in files_below(version)}
    found.pop("manifest.json")
    assert {name: each["digest"] for name, each in manifest.items()} == {
        name: digest_file(path) for name, path in found.items()
    }


def test_a_version_is_called_by_the_start_of_its_digest(root: Path) -> None:
    outcome = published(root)

    (version,) = versions_of(root)
    assert outcome.artifacts[0].digest.startswith(f"sha256:{version.name}")
    assert len(version.name) == 12


def test_the_recorded_size_is_that_of_all_files(root: Path) -> None:
    outcome = published(root)

    (version,) = versions_of(root)
    size = sum(path.stat().st_size for path in files_below(version))
    assert outcome.artifacts[0].bytes == size


def test_the_record_can_be_read_back_and_says_what_the_model_was_made_from(root: Path) -> None:
    outcome = published(root, version="v1")

    text = (versions_of(root)[0] / "model-version.yaml").read_text()
    record = ModelVersion.model_validate(yaml.safe_load(text))
    assert record.metadata.name == "tickets-v1"
    assert record.spec.lineage.base_model == "hf://acme/base"
    assert record.spec.lineage.hyperparameters["training.optimizer.learningRate"] == "0.0002"
    assert outcome.facts["modelVersion"] == yaml.safe_load(text)


def test_what_the_manifest_left_open_is_told_by_its_path_in_the_spec(root: Path) -> None:
    outcome = published(root)

    (version,) = versions_of(root)
    assert outcome.facts["resolved"] == {
        "output.uri": (root / "models/tickets").as_uri(),
        "output.version": version.name,
    }


def test_serving_json_holds_the_settings_that_were_verified(root: Path) -> None:
    published(root)

    settings = json.loads((versions_of(root)[0] / "serving.json").read_text())
    assert settings["dtype"] == "float32"


def test_the_card_warns_of_wide_intervals_and_of_the_unknown_licence(root: Path) -> None:
    published(root)

    card = (versions_of(root)[0] / "README.md").read_text()
    assert "heldOut has only 6 rows: its intervals are wide" in card
    assert "licence is the base model's" in card
    assert "It read 90,000 tokens, of which 36,000 were trained." in card
    assert "| heldOut | loss | tuned | 3.8 | 2.41 | 2.1 to 2.83 | 6 |" in card
    assert "99.4% of 1,201 tokens (98.9% to 99.7%, each end at 95%)" in card


def test_the_card_tells_of_a_judge_and_of_a_managed_model(root: Path) -> None:
    file = root / EVALUATE.name / "evaluation.json"
    used = {"promptTokens": 27_500, "completionTokens": 41_000, "price": 0.625}
    judged = {"model": "large", "tuned": 18, "base": 7, "tie": 5, "inconsistent": 4}
    more = {
        "judge": {**judged, "firstShare": 0.56},
        "reference": {"model": "huge", "perThousandRequests": {"tuned": used, "reference": used}},
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | more))

    published(root)

    card = (versions_of(root)[0] / "README.md").read_text()
    assert "large compared the answers of tuned and base model in both orders" in card
    assert "56% of its verdicts named the one shown first" in card
    assert "27,500 tokens read and 41,000 written of it, at a price of 0.625" in card


def test_held_out_rows_and_answers_to_them_stay_with_the_job(root: Path) -> None:
    """They were in every version that anybody could read."""
    file = root / EVALUATE.name / "evaluation.json"
    sample = {"prompt": HELD_OUT, "reference": HELD_OUT, "base": HELD_OUT, "tuned": HELD_OUT}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"samples": [sample]}))

    published(root)

    assert leaks(contents_below(versions_of(root)[0]), [HELD_OUT]) == []


def test_the_card_says_what_was_forgotten_and_what_the_remedies_changed(root: Path) -> None:
    published(root)

    card = (versions_of(root)[0] / "README.md").read_text()
    assert "| held-out loss less that of training rows | +0.310 (+0.270 to +0.360) |" in card
    assert "| loss on general text less the base model's | +0.060 |" in card
    assert "After 12 steps, beside a run without training.lora.dropout" in card
    assert "changed the gap by -0.090 (-0.130 to -0.040)" in card
    assert "| training.lora.dropout | `0.05` |" in card


def test_the_same_content_is_published_once(root: Path) -> None:
    first = published(root)
    again = published(root, attempt="second")

    assert len(versions_of(root)) == 1
    assert again.artifacts == first.artifacts
    assert again.message.startswith("already published")


def test_other_content_never_replaces_a_version(root: Path) -> None:
    published(root, version="v1")
    before = digest_file(root / "models/tickets/v1/manifest.json")
    make_verified_job(root, weights=b"other")

    with pytest.raises(BadInputError) as caught:
        published(root, attempt="second", version="v1")

    assert caught.value.reason is Reason.OUTPUT_CONFLICT
    assert "another spec.output.version" in caught.value.message
    assert digest_file(root / "models/tickets/v1/manifest.json") == before


def test_a_folder_that_is_no_version_is_left_alone(root: Path) -> None:
    stranger = root / "models/tickets/v1/notes.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")

    with pytest.raises(BadInputError) as caught:
        published(root, version="v1")

    assert caught.value.reason is Reason.OUTPUT_CONFLICT
    assert stranger.read_text() == "mine"


def test_a_damaged_version_is_not_passed_off_as_published(root: Path) -> None:
    published(root, version="v1")
    (root / "models/tickets/v1/model.safetensors").write_bytes(b"flipped")

    with pytest.raises(VerdictError) as caught:
        published(root, attempt="second", version="v1")

    assert caught.value.reason is Reason.PUBLISH_FAILED
    assert "model.safetensors has another content" in caught.value.message


def test_a_full_disk_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)

    with pytest.raises(OSError, match="No space left"):
        published(root)

    assert versions_of(root) == []


def test_bytes_that_change_on_the_way_are_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = local_target._copy

    def flip(source: Path, target: Path) -> None:
        copy(source, target)
        if target.name == "model.safetensors":
            target.write_bytes(b"flipped")

    monkeypatch.setattr(local_target, "_copy", flip)

    with pytest.raises(VerdictError) as caught:
        published(root)

    assert caught.value.reason is Reason.PUBLISH_FAILED
    assert versions_of(root) == []


def test_what_a_killed_job_left_half_written_is_swept(root: Path) -> None:
    half = root / "models/tickets/.publishing-v1/model.safetensors"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")

    published(root, version="v1")

    assert [path.name for path in versions_of(root)] == ["v1"]


def test_two_jobs_publish_the_same_content_at_once(root: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda name: published(root, attempt=name), ("a", "b")))

    assert len(versions_of(root)) == 1
    assert sorted(each.message.split()[0] for each in outcomes) == ["already", "published"]


def test_of_two_jobs_with_other_content_one_gets_the_name(root: Path, tmp_path: Path) -> None:
    other = make_verified_job(tmp_path / "other", weights=b"other")
    uri = (tmp_path / "shared").as_uri()

    def attempt(job: Path) -> str:
        try:
            return published(job, version="v1", uri=uri).message.split()[0]
        except BadInputError as error:
            return error.reason

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(attempt, (root, other)))

    assert sorted(ends) == ["OutputConflict", "published"]


def test_code_in_the_models_folder_is_never_published(root: Path) -> None:
    (root / "compress/compressed/modeling.py").write_text("print()")

    with pytest.raises(VerdictError, match=r"modeling\.py, which can run code"):
        published(root)


def test_where_the_job_lies_does_not_change_the_version(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)

    assert published(root).artifacts[0].digest == published(moved).artifacts[0].digest


def test_a_relative_target_starts_at_the_manifest(root: Path) -> None:
    published(root, uri="file://out/here", version="v1")

    assert (root / "out/here/v1/manifest.json").exists()


def test_a_job_of_a_cluster_is_remembered_by_its_last_stage_and_met_by_a_search(
    root: Path, tmp_path: Path
) -> None:
    store = (tmp_path / "memory").as_uri()
    request = publish_request(root, output=root / "jobs" / "first" / "artifacts")
    finished = publish(request.model_copy(update={"memory_store": store}), SilentReporter())
    searching = request.model_copy(
        update={
            "job": "later",
            "stage_keys": {},
            "memory_store": store,
            "spec": request.spec.model_copy(update={"search": Search(parameters=[_RATES])}),
        }
    )

    told = recall_from_store(searching)

    assert finished.warnings == []
    assert [each.record.job for each in told.neighbours] == ["tickets"]
    assert recall_from_store(searching.model_copy(update={"memory_store": None})) == Recalled()


def test_a_memory_that_cannot_be_written_is_a_warning(root: Path) -> None:
    (root / "file").touch()
    request = publish_request(root, output=root / "jobs" / "first" / "artifacts")
    store = (root / "file" / "memory").as_uri()

    outcome = publish(request.model_copy(update={"memory_store": store}), SilentReporter())

    assert "later searches will not know of this job" in outcome.warnings[0]
