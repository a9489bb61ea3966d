"""Foreign bytes before the control plane: each is read or refused, never a crash or a hang."""

import json
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pydantic import TypeAdapter, ValidationError

from fuzzing import LONG, SHORT, fuzz
from manifests import a_job
from rollouts import SECONDS, a_rollout, limits_of
from small_models import safetensors
from tunesmith_api.finetunejob.status import Progress
from tunesmith_api.json_io import read_json
from tunesmith_api.manifest import ManifestError, load_any_kind
from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_api.uris import SourceUri, parse_uri, redacted
from tunesmith_engine.monitoring.prometheus import number_in
from tunesmith_engine.rollout.recording import Header, RecordingError, line_of, read_recording
from tunesmith_engine.search_memory.stored_lines import NewerVersionError, records_in
from tunesmith_engine.sources.gguf_header import read_gguf_header
from tunesmith_engine.sources.safetensors_header import read_safetensors_header
from tunesmith_engine.sources.version_manifest import parse_manifest
from tunesmith_engine.stages.contracts import StageResult


class Parser(NamedTuple):
    check: Callable[[bytes], Any]
    samples: Sequence[bytes]
    refusals: tuple[type[Exception], ...] = (ValueError,)


def text(content: bytes) -> str:
    return content.decode("utf-8", errors="surrogateescape")


def of_file(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    def check(content: bytes) -> Any:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            return read(Path(file.name))

    return check


def gguf() -> bytes:
    name = b"general.architecture"
    field = struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, 5) + b"llama"
    array = struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 4, 3) + bytes(12)
    tensor = struct.pack("<Q", 1) + b"w" + struct.pack("<IQQIQ", 2, 4, 4, 0, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + field + array + tensor


def check_uri(content: bytes) -> None:
    shown = redacted(text(content))
    assert "secret" not in shown.partition("://")[2].partition("/")[0].partition("@")[0] or (
        "@" not in text(content)
    )
    TypeAdapter(SourceUri).validate_python(text(content))
    parse_uri(text(content))


_HEADER: Final = Header(
    tunesmith="0.1.0",
    stable="helpdesk@1a2b",
    candidate="helpdesk@3c4d",
    limits=limits_of(Metric.ERRORS),
    ended_seconds=SECONDS,
)
_RECORDING: Final = "\n".join([line_of(_HEADER), *map(line_of, a_rollout(num=20)[:5])])
_RESULT: Final = {
    "stage": "train", "key": "k", "attempt": 1, "outcome": "Succeeded", "reason": "Succeeded",
    "facts": {"a": [1, {"b": None}]}, "artifacts": [{"name": "a", "uri": "file:///a", "digest": "d",
    "bytes": 1}],
}  # fmt: skip
PARSERS: Final[dict[str, Parser]] = {
    "manifest": Parser(
        lambda content: load_any_kind(text(content)),
        [json.dumps(a_job()).encode(), b"a: &a {b: c}\nd: *a\n", b"spec:\n  - x\n"],
        (ManifestError,),
    ),
    "uri": Parser(check_uri, [b"s3://bucket/a?versionId=1", b"https://user:secret@example.org/x"]),
    "json": Parser(read_json, [b'{"a": [1, 2, {"b": "c"}]}']),
    "safetensors header": Parser(of_file(read_safetensors_header), [safetensors({"a": [2, 2]})]),
    "GGUF header": Parser(of_file(read_gguf_header), [gguf()]),
    "manifest of a version": Parser(
        parse_manifest, [b'{"files": {"a/b": {"digest": "d", "bytes": 1}}}']
    ),
    "result of a stage": Parser(StageResult.model_validate_json, [json.dumps(_RESULT).encode()]),
    "progress of a stage": Parser(
        Progress.model_validate_json,
        [b'{"stage": "a", "message": "m", "lastUpdateTime": "2026-01-01T00:00:00Z"}'],
        (ValidationError,),
    ),
    "rollout recording": Parser(
        lambda content: read_recording(text(content).splitlines()),
        [_RECORDING.encode()],
        (RecordingError,),
    ),
    "search memory": Parser(
        lambda content: records_in(text(content)),
        [b'{"version": 1, "uid": "u"}\n'],
        (NewerVersionError,),
    ),
    "answer of Prometheus": Parser(
        number_in, [b'{"data": {"resultType": "vector", "result": [{"value": [1, "2"]}]}}'], ()
    ),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses(name: str) -> None:
    check, samples, refusals = PARSERS[name]
    fuzz(check, samples, refusals=refusals, examples=SHORT)


@pytest.mark.long
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses_whatever_comes(name: str) -> None:
    check, samples, refusals = PARSERS[name]
    fuzz(check, samples, refusals=refusals, examples=LONG)
