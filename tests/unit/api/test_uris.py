"""Addresses hold no credentials: they are shown wherever a job is."""

import json
import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from tunesmith_api.manifest import ManifestError, load_job
from tunesmith_api.uris import (
    FOLDER_PATTERN,
    SOURCE_PATTERN,
    STORE_PATTERN,
    TARGET_PATTERN,
    SourceUri,
    redacted,
)

KEY = "planted-3f9c"


@pytest.mark.parametrize(
    "uri",
    [
        "hf://owner/name", "hf://datasets/owner/name@main/rows.jsonl", "s3://bucket/a%20b#1",
        "s3://bucket", "s3://arn:aws:s3:eu-west-1:1:accesspoint/a/x", "s3://b/x@y:z/*.jsonl",
        "s3://b/rows.jsonl?versionId=3sL4kq.tJ_-1", "gs://b/x", "https://example.org/x@1/rows.csv",
        "https://example.org", "https://example.org:8443/x", "file:///a?b", "python://package/x",
    ],
)  # fmt: skip
def test_places_to_read_from(uri: str) -> None:
    assert re.fullmatch(SOURCE_PATTERN, uri)
    assert TypeAdapter(SourceUri).validate_python(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://id:{KEY}@bucket/x", f"https://user:{KEY}@example.org/x", f"https://{KEY}@example.org",
        f"https://example.org/x?X-Amz-Signature={KEY}", f"https://b.blob.core.windows.net/x?sig={KEY}",
        f"https://example.org/x#token={KEY}", f"https://example.org?key={KEY}", f"gs://b/x?token={KEY}",
        f"hf://user:{KEY}@owner/name", f"s3://b/x?X-Amz-Signature={KEY}", f"hf://a/b?token={KEY}",
        f"abfs://container:{KEY}@account/x", f"oci://user:{KEY}@registry/x", "https:///x",
        f"s3://b/x?versionId=1&sig={KEY}",
    ],
)  # fmt: skip
def test_an_address_with_credentials_is_no_place_and_is_shown_without_them(uri: str) -> None:
    for pattern in (SOURCE_PATTERN, TARGET_PATTERN, FOLDER_PATTERN, STORE_PATTERN):
        assert re.fullmatch(pattern, uri) is None
    assert KEY not in redacted(uri)


@pytest.mark.parametrize("scheme", ["https", "s3", "gs", "hf", "az", "oci"])
@pytest.mark.parametrize("rest", ["@example.org/x", "@h/x?sig=1", "?@example.org/x", "#@h"])
def test_a_password_with_a_slash_is_neither_taken_nor_shown(scheme: str, rest: str) -> None:
    for password in (f"{KEY}/x", f"a/{KEY}", f"a://u:{KEY}", f":{KEY}/", f"/{KEY}"):
        uri = f"{scheme}://user:{password}{rest}"

        assert not re.fullmatch(SOURCE_PATTERN, uri)
        assert not re.fullmatch(TARGET_PATTERN, uri)
        assert KEY not in redacted(uri)


@pytest.mark.parametrize(
    "uri",
    ["https://[::1]:8443/x@1", "https://example.org:8443/x@1", "s3://arn:aws:s3:eu:1:a/x@1"],
)
def test_what_is_no_password_is_shown(uri: str) -> None:
    assert re.fullmatch(SOURCE_PATTERN, uri)
    assert redacted(uri) == uri


def test_azures_container_is_no_user() -> None:
    for uri in ("abfs://container@account.dfs.core.windows.net/x", "az://container/x"):
        assert re.fullmatch(TARGET_PATTERN, uri)
        assert re.fullmatch(STORE_PATTERN, uri)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "uri"), f"https://user:{KEY}@example.org/m.gguf"),
        (("dataset", "train", "uri"), f"https://example.org/x?sig={KEY}"),
        (("output", "uri"), f"s3://id:{KEY}@bucket/x"),
        (("workspace", "uri"), f"s3://id:{KEY}@bucket/x"),
        (("model", "secretRef"), KEY),
        (("model", "secretRef", "name"), f"{KEY}_A"),
        (("evaluation", "judge", "endpoint", "url"), f"https://u:{KEY}@example.org/v1"),
        (("tracking", "mlflow", "trackingUri"), f"https://u:{KEY}@example.org"),
        (("evaluation", "suites"), [{"name": "a", "task": "a", "uri": f"s3://u:{KEY}@b/x"}]),
    ],
)
def test_what_is_refused_is_told_without_its_key(path: tuple[str, ...], value: Any) -> None:
    spec: dict[str, Any] = {
        "model": {"uri": "hf://a/b"},
        "dataset": {"train": {"uri": "s3://a/b"}},
        "output": {"model": "m"},
    }
    holder = spec
    for name in path[:-1]:
        holder = holder.setdefault(name, {})
    holder[path[-1]] = value
    given = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "a"},
        "spec": spec,
    }

    with pytest.raises(ManifestError) as refused:
        load_job(json.dumps(given))

    assert KEY not in str(refused.value)
    assert ".".join(path) in str(refused.value)
