"""What a job publishes with a key to sign with."""

from pathlib import Path
from typing import Any

import pytest

from signing_keys import keep, p256, private_pem, public_pem
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.version_manifest import SIGNATURE, manifest_of, parse_manifest
from tunesmith_engine.sources.version_signature import PUBLIC_KEY, why_unsigned
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import path_of
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.prepare.preflight import refuse_missing
from tunesmith_trainer.publish.stage import publish
from verified_job import SilentReporter, make_verified_job, publish_request

KEY = p256()
SIGNING = {"secretRef": {"name": "release"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    keep(tmp_path / "job" / "secrets", "release", private_pem(KEY))
    return make_verified_job(tmp_path / "job")


def published(root: Path, **output: Any) -> StageOutcome:
    request = publish_request(root, output=root / "attempt", signing=SIGNING, **output)
    return publish(request, SilentReporter())


def folder_of(outcome: StageOutcome) -> Path:
    return path_of(outcome.artifacts[0].uri)


def why_untrusted(folder: Path) -> str | None:
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    assert manifest == manifest_of(folder)
    return why_unsigned(folder, manifest, [public_pem(KEY)])


def test_a_signed_version_lists_its_signature_and_its_key(root: Path) -> None:
    outcome = published(root)
    folder = folder_of(outcome)

    assert why_untrusted(folder) is None
    assert (folder / PUBLIC_KEY).read_text() == public_pem(KEY)
    record = outcome.facts["modelVersion"]
    assert isinstance(record, dict)
    assert {PUBLIC_KEY, SIGNATURE} < {file["name"] for file in record["spec"]["files"]}  # type: ignore[index, union-attr, call-overload]


def test_the_key_itself_is_nowhere_but_in_its_secret(root: Path) -> None:
    outcome = published(root)
    secret = private_pem(KEY).splitlines()[1]

    holders = [path for path in root.rglob("*") if path.is_file() and secret in path.read_text()]
    assert holders == [root / "secrets" / "release" / "signing.key"]
    assert secret not in repr(outcome)


def test_it_is_published_once_under_one_key_and_apart_under_another(root: Path) -> None:
    first, again = published(root), published(root)
    keep(root / "secrets", "release", private_pem(p256()))
    other = published(root)

    assert again.message.startswith("already published")
    assert first.artifacts == again.artifacts
    assert folder_of(other) != folder_of(first)
    assert "by none of the keys" in (why_untrusted(folder_of(other)) or "")


def test_the_base_of_an_adapter_is_signed_as_well(root: Path) -> None:
    tuned = root / TRAIN.name / "tuned"
    tuned.mkdir(parents=True)
    (tuned / "adapter_model.safetensors").write_text("x")
    adapter = published(root, artifact="adapter")

    (base,) = (root / "models" / "tickets" / "bases").glob("[0-9a-f]*")
    assert [why_untrusted(folder) for folder in (folder_of(adapter), base)] == [None, None]


@pytest.mark.parametrize("content", [{"other": "x"}, {"signing.key": "no key"}, {}])
def test_without_a_key_that_does_the_job_is_refused_before_it_trains(
    root: Path, content: dict[str, str]
) -> None:
    folder = root / "secrets" / "release"
    (folder / "signing.key").unlink()
    for name, text in content.items():
        (folder / name).write_text(text)
    request = publish_request(root, output=root / "attempt", signing=SIGNING)

    with pytest.raises(BadInputError, match=r"^output\.signing\.secretRef: ") as caught:
        refuse_missing(request)
    assert caught.value.reason is Reason.SECRET_NOT_FOUND
    with pytest.raises(BadInputError):
        publish(request, SilentReporter())
