"""The parsers of the control plane that meet bytes of others: what is well formed, and refusals.

`tests/unit/engine/test_fuzz.py` has hypothesis break the samples, and has libFuzzer look from them
for bytes that reach new lines of the code (`guided_fuzzing.py`).
"""

import json
import struct
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from manifests import a_job
from rollouts import SECONDS, a_rollout, limits_of
from signing_keys import p256, public_pem
from small_models import safetensors
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Progress
from tunesmith_api.json_io import read_json
from tunesmith_api.manifest import ManifestError, load_any_kind
from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_api.uris import SourceUri, parse_uri, redacted
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.drift.stored_arrays import Form, pack, unpack
from tunesmith_engine.monitoring.drift_page import DriftPage
from tunesmith_engine.monitoring.prometheus import number_in
from tunesmith_engine.monitoring.replica_counters import promises, read_counters
from tunesmith_engine.monitoring.replica_metrics import parse_metrics
from tunesmith_engine.monitoring.traffic_drift import SketchDetector
from tunesmith_engine.rollout.merge import SampleMerger
from tunesmith_engine.rollout.recording import Header, RecordingError, line_of, read_recording
from tunesmith_engine.rollout.ring_page import RingPage
from tunesmith_engine.rollout.samples import Arm
from tunesmith_engine.search_memory.stored_lines import NewerVersionError, records_in
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.gguf_header import read_gguf_header
from tunesmith_engine.sources.image_layers import unpack as unpack_layer
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.safetensors_header import read_safetensors_header
from tunesmith_engine.sources.version_manifest import SIGNATURE, manifest_of, parse_manifest
from tunesmith_engine.sources.version_signature import PUBLIC_KEY, why_unsigned
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.termination_message import termination_message
from tunesmith_engine.stages.trial_records import TrialsFile
from tunesmith_operator.finetunejob.child_names import reporting_attempt
from tunesmith_operator.kube.lost_fields import lost_fields


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


def layer() -> bytes:
    """The layer of an image with a file of a model."""
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as files:
        member = tarfile.TarInfo("models/a/b")
        member.size = 3
        files.addfile(member, BytesIO(b"abc"))
    return archive.getvalue()


def of_layer(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        outer = Path(name)
        (folder := outer / "models").mkdir()
        (archive := outer / "layer").write_bytes(content)
        try:
            unpack_layer(archive, folder)
        finally:
            assert {each.name for each in outer.iterdir()} == {"models", "layer"}


def of_model_folder(content: bytes) -> None:
    """The first line is the configuration of the model, the rest that of its tokenizer."""
    config, _, tokenizer = content.partition(b"\n")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "config.json").write_bytes(config)
        (Path(name) / "tokenizer_config.json").write_bytes(tokenizer)
        read_model_facts(Path(name))


def unsigned_by(key: str, signature: bytes = b"") -> str | None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SIGNATURE).write_bytes(signature)
        (folder / PUBLIC_KEY).write_bytes(key.encode(errors="surrogateescape"))
        return why_unsigned(folder, manifest_of(folder), [key])


def of_signature(content: bytes) -> None:
    """The first line is the signature, the rest what the version says whose it is."""
    signature, _, rest = content.partition(b"\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SIGNATURE).write_bytes(signature)
        (folder / PUBLIC_KEY).write_bytes(rest)
        assert why_unsigned(folder, manifest_of(folder), [KEY])


def of_metrics(content: bytes) -> None:
    parse_metrics(text(content))
    read_counters(text(content), promises(None))


def of_samples(content: bytes) -> None:
    page = RingPage.of(read_json(content), read_at=20.0).in_rollout("r", Arm.CANDIDATE, begin=1.0)
    SampleMerger().merge([page], replicas={"r"}, now=30.0)


def of_drift(content: bytes) -> None:
    page, now = DriftPage.of(read_json(content)), datetime(2026, 11, 27, 12, tzinfo=UTC)
    blocks = [(now - timedelta(seconds=each.age_seconds), each.sketch) for each in page.blocks]
    detector = SketchDetector()
    detector.traffic(detector.observe(None, blocks, reference=None), version="v", reference=None)


def of_reference(content: bytes) -> None:
    found = read_json(content)
    if isinstance(found, dict):
        SketchDetector().traffic(None, version="v", reference=found)


def of_notes(content: bytes) -> None:
    """Any JSON object whose parts are of the kinds that the server sees to."""
    found = read_json(content)
    if isinstance(found, dict):
        annotation = {"kubectl.kubernetes.io/last-applied-configuration": text(content)}
        list(lost_fields({"metadata": {"annotations": annotation}, "spec": found}))


KEY: Final = public_pem(p256())
_CONFIG: Final = {
    "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16,
    "vocab_size": 32, "max_position_embeddings": 64, "text_config": {},
}  # fmt: skip
_REPORT: Final = {
    "revision": "r", "instance": "i", "ready": True, "draining": False, "reason": "", "message": "",
    "running": 0, "accepted": 0, "quietSeconds": 0.0, "adapters": [],
}  # fmt: skip
_SAMPLES: Final = {
    "instance": "i", "next": 3, "dropped": 0, "watermarkSeconds": 1.5,
    "samples": [{"ageSeconds": 2.0, "error": False, "ttftSeconds": 0.1, "outputTokens": 3}],
}  # fmt: skip
_SKETCH: Final = {"version": 1, "numRequests": 1, "signals": {"refusal": [1, 0]}}
_DRIFT: Final = {
    "instance": "i", "next": 1, "version": "v", "blocks": [{"ageSeconds": 3, "sketch": _SKETCH}],
}  # fmt: skip
_METRICS: Final = b"""# TYPE tunesmith_requests_total counter
tunesmith_requests_total{outcome="complete"} 3
vllm:generation_tokens_total{model_name="m"} 1e3
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 3
"""
_LOG: Final = b"""Traceback (most recent call last):
  File "/a/site-packages/torch/x.py", line 7, in f
    raise KeyError
KeyError: 'a'
"""
_NOTES: Final = {"spec": {"training": {"novelty": 1}}}
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
    "status of a job": Parser(
        FineTuneJobStatus.model_validate_json,
        [b'{"phase": "Training", "stages": [{"name": "a", "key": "k"}], "contract": 1}'],
        (ValidationError,),
    ),
    "trials of a search": Parser(
        of_file(TrialsFile.read), [b'{"format": 1, "trials": []}'], (ValidationError,)
    ),
    "facts of a folder": Parser(
        of_model_folder,
        # The second is what ended a plan with an AttributeError.
        [
            json.dumps(_CONFIG).encode() + b'\n{"chat_template": "x"}',
            json.dumps(_CONFIG).encode() + b"\n[]",
        ],
        (SourceError,),
    ),
    "layer of an image": Parser(of_layer, [layer()], (tarfile.TarError, OSError)),
    "signature of a version": Parser(
        of_signature, [b"MEQCIA==\n" + KEY.encode(), b"?\n" + KEY.encode()]
    ),
    "public key": Parser(lambda content: unsigned_by(text(content)), [KEY.encode()]),
    "state of drift": Parser(
        lambda content: unpack(text(content), {"a": Form((2,), "<f4")}),
        [pack({"a": np.zeros(2)}, {"a": Form((2,), "<f4")}).encode()],
    ),
    "report of a replica": Parser(
        ReplicaReport.model_validate_json, [json.dumps(_REPORT).encode()], (ValidationError,)
    ),
    "counters of a replica": Parser(of_metrics, [_METRICS], ()),
    "samples of a replica": Parser(
        of_samples, [json.dumps(_SAMPLES).encode()], (ValueError, LookupError, TypeError)
    ),
    "drift of a replica": Parser(
        of_drift, [json.dumps(_DRIFT).encode()], (ValueError, LookupError, TypeError)
    ),
    "reference of a replica": Parser(
        of_reference, [json.dumps({"training": {"requests": 3}}).encode()]
    ),
    "log of a stage": Parser(lambda content: termination_message(text(content)), [_LOG], ()),
    "key of a report": Parser(
        lambda content: reporting_attempt(text(content)), [b"train-1-0a1b2.result"], ()
    ),
    "notes of field managers": Parser(of_notes, [json.dumps(_NOTES).encode()]),
    "answer of Prometheus": Parser(
        number_in, [b'{"data": {"resultType": "vector", "result": [{"value": [1, "2"]}]}}'], ()
    ),
}
