"""What serve refuses before it becomes vLLM, and what it hands over."""

import json
import shutil
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.serving import Speculative
from tunesmith_api.modeldeployment.engine import Engine, EngineArguments
from tunesmith_api.modeldeployment.monitoring import Monitoring
from tunesmith_api.modeldeployment.rollout import Rollout
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_engine.deployment.serve_command import serve_arguments
from tunesmith_engine.sources.version_manifest import manifest_of, parse_manifest
from tunesmith_serving.replica.middleware import MIDDLEWARE
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.serve import serve
from tunesmith_serving.settings import ServingSettings

SETTINGS = ServingSettings(
    model="helpdesk", dtype="float32", enforce_eager=True, max_model_length=2048
)
PAIR = SETTINGS.model_copy(update={"speculative": Speculative(method="draftModel", tokens=2)})


class BecameServerError(Exception):
    """Instead of execve, which never returns."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        calls.append((arguments, environment))
        raise BecameServerError

    monkeypatch.setattr("os.execve", execve)
    return calls


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "version"
    (folder / "extra").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "extra" / "notes.txt").write_text("notes")
    write_settings(folder, SETTINGS)
    return folder


def write_settings(folder: Path, settings: ServingSettings) -> None:
    """The manifest is then that of the folder as it is."""
    (folder / "serving.json").write_text(settings.model_dump_json(by_alias=True))
    (folder / "manifest.json").write_text(manifest_of(folder).text())


@pytest.fixture
def with_draft(published: Path) -> Path:
    """The same version with a small model that guesses."""
    (published / "draft").mkdir()
    (published / "draft" / "config.json").write_text("{}")
    (published / "draft" / "model.safetensors").write_bytes(b"small")
    write_settings(published, PAIR)
    return published


def test_an_unchanged_version_becomes_a_server_on_loopback(
    published: Path, port: int, became: list[Any]
) -> None:
    with pytest.raises(BecameServerError):
        serve([str(published), "--port", str(port)])

    ((arguments, environment),) = became
    assert arguments[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert arguments[3:] == [
        *SETTINGS.command_line(published, name="helpdesk", host="127.0.0.1", port=port),
        "--middleware",
        MIDDLEWARE,
    ]
    assert environment.items() >= SETTINGS.environment().items()
    replica = ReplicaSettings.model_validate_json(environment["TUNESMITH_REPLICA"])
    assert (replica.version, replica.model) == ("version", "helpdesk")
    assert replica.digest.startswith("sha256:")
    assert replica.fingerprints == published / "fingerprints.json"


def test_a_deployment_says_how_its_replicas_are_served(
    published: Path, port: int, became: list[Any]
) -> None:
    """With the words of the operator and of the laptop: whatever they say is understood here."""
    spec = ModelDeploymentSpec(
        model="helpdesk",
        engine=Engine(
            max_model_length=512,
            max_requests=4,
            arguments=EngineArguments(tool_call_parser="hermes", kv_cache_dtype="fp8"),
        ),
        rollout=Rollout(compare_fraction=0.5),
        monitoring=Monitoring(max_probe_interval_seconds=60, probe_token_fraction=0.01),
    )
    digest = parse_manifest((published / "manifest.json").read_bytes())
    assert digest is not None
    revision = DesiredRevision(
        revision="0123abcd",
        version="v2",
        digest=digest.digest(),
        uri=published.as_uri(),
        replicas=1,
        compared_with="4567abcd",
    )
    words = serve_arguments(
        revision,
        spec,
        folder=str(published),
        host="127.0.0.1",
        port=port,
        stable_url="http://stable:8000",
    )

    with pytest.raises(BecameServerError):
        serve(words[words.index("serve") + 1 :])

    ((arguments, environment),) = became
    told = dict(pairwise(arguments))
    assert told["--max-model-len"] == "512"
    assert told["--max-num-seqs"] == "4"
    assert told["--tool-call-parser"] == "hermes"
    assert told["--kv-cache-dtype"] == "fp8"
    assert "--enable-auto-tool-choice" in arguments
    replica = ReplicaSettings.model_validate_json(environment["TUNESMITH_REPLICA"])
    assert (replica.version, replica.revision) == ("v2", "0123abcd")
    assert (replica.stable_url, replica.compare_fraction) == ("http://stable:8000", 0.5)
    pace = (replica.probe_seconds, replica.max_probe_seconds, replica.probe_token_fraction)
    assert pace == (15, 60, 0.01)


def test_a_version_with_a_draft_guesses_with_what_lies_in_it(
    with_draft: Path, port: int, became: list[Any]
) -> None:
    with pytest.raises(BecameServerError):
        serve([str(with_draft), "--port", str(port)])

    ((arguments, _),) = became
    asked = json.loads(dict(pairwise(arguments))["--speculative-config"])
    draft = str(with_draft / "draft")
    assert asked == {"method": "draft_model", "model": draft, "num_speculative_tokens": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "draft/config.json is missing; draft/model.safetensors is missing"),
        (
            lambda draft: (draft / "model.safetensors").write_bytes(b"SMALL"),
            "draft/model.safetensors has another digest",
        ),
        (
            lambda draft: (draft / "modeling.py").write_text("import os"),
            "draft/modeling.py was added",
        ),
    ],
)
def test_a_draft_that_is_not_what_was_published_is_refused(
    with_draft: Path,
    became: list[Any],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    message: str,
) -> None:
    change(with_draft / "draft")

    assert serve([str(with_draft), "--port", "8123"]) == 2
    assert f"{message}. Publish the model again" in capsys.readouterr().err
    assert became == []


def test_a_version_that_is_to_guess_and_has_no_draft_is_refused_before_vllm_loads_anything(
    published: Path, port: int, became: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_settings(published, PAIR)

    assert serve([str(published), "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert "serving.json: speculative.method" in told
    assert "has no draft/config.json" in told
    assert became == []


def test_a_version_is_served_without_the_formats_for_devices_that_fetch_leaves_out(
    published: Path, port: int, became: list[Any]
) -> None:
    graph = published / "exports" / "onnx-int4" / "model.onnx"
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"graph")
    write_settings(published, SETTINGS)
    shutil.rmtree(published / "exports")

    with pytest.raises(BecameServerError):
        serve([str(published), "--port", str(port)])


def test_another_version_than_the_deployments_is_refused(
    published: Path, port: int, became: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve([str(published), "--port", str(port), "--digest", f"sha256:{'0' * 64}"]) == 2

    assert not became
    assert "is to be served" in capsys.readouterr().err


@pytest.mark.parametrize("given", ['{"trustRemoteCode": true}', '{"toolCallParser": "../x.py"}'])
def test_arguments_that_are_not_on_the_list_are_refused(published: Path, given: str) -> None:
    with pytest.raises(SystemExit) as ended:
        serve([str(published), "--engine-arguments", given])

    assert ended.value.code == 2


def test_a_build_for_gpus_serves_what_was_proved_on_a_cpu_and_says_so(
    published: Path,
    port: int,
    became: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tunesmith_serving.serve.installed_platform", lambda: "gpu")

    with pytest.raises(BecameServerError):
        serve([str(published), "--port", str(port)])

    ((arguments, environment),) = became
    assert "--gpu-memory-utilization" in arguments
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment
    assert "proved this version with vLLM for cpu" in capsys.readouterr().err


def test_clients_may_know_the_model_by_another_name(
    published: Path, port: int, became: list[Any]
) -> None:
    with pytest.raises(BecameServerError):
        serve([str(published), "--port", str(port), "--name", "assistant"])

    assert "assistant" in became[0][0]


def _same_size(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")


def _shorter(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weight")


def _missing(folder: Path) -> None:
    (folder / "extra" / "notes.txt").unlink()


def _added(folder: Path) -> None:
    (folder / "model-2.safetensors").write_bytes(b"")


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": ')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_same_size, "model.safetensors has another digest"),
        (_shorter, "model.safetensors has 6 bytes instead of 7"),
        (_missing, "extra/notes.txt is missing"),
        (_added, "model-2.safetensors was added"),
        (_no_manifest, "is not a published version: it has no manifest.json"),
        (_broken_manifest, "manifest.json cannot be read"),
    ],
)
def test_a_version_that_is_not_what_was_published_is_refused(
    published: Path,
    became: list[Any],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    message: str,
) -> None:
    change(published)

    assert serve([str(published), "--port", "8123"]) == 2
    assert message in capsys.readouterr().err
    assert became == []


def test_a_port_in_use_is_refused_before_anything_is_loaded(
    published: Path, became: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert serve([str(published), "--port", str(port)]) == 2

    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err
    assert became == []


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_what_is_no_port_is_refused(published: Path, port: str) -> None:
    with pytest.raises(SystemExit) as ended:
        serve([str(published), "--port", port])

    assert ended.value.code == 2
