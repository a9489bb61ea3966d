"""A home folder with versions that stand-in engines serve, and `tunesmith deploy` on it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from command import TUNESMITH, free_port
from stand_in_serve import OPTIONS, SUPPORT
from tunesmith_api.modelversion import Adapter, Lineage, ModelVersion, ModelVersionSpec, VersionMeta
from tunesmith_api.results import Artifact
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_FOLDER,
    ADAPTER_RECORD,
    ADAPTER_SCHEME,
    BASES,
    AdapterRecord,
)
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, VersionManifest, manifest_of

MODEL = "helpdesk"
NAME = "desk"
# A few metrics with large effects are settled by tens of requests.
ANALYSIS: dict[str, Any] = {
    "windowSeconds": 1,
    "warmupSeconds": 1,
    "minimumSamples": 20,
    # Long: a slow machine must not be what rejects a sound version.
    "deadlineSeconds": 240,
    "metrics": {
        "errors": {"minimumEffect": 0.2},
        "incomplete": {"minimumEffect": 0.2},
        "ttftP50": {"minimumEffect": 1.0},
    },
}
# Far above what a busy machine adds: twice as slow is the version's doing then.
TTFT_S = 0.1


@dataclass(frozen=True)
class Replayed:
    """A recording, judged again."""

    returncode: int
    json: dict[str, Any]


@dataclass(frozen=True)
class Laptop:
    """One deployment of one home folder."""

    home: Path
    port: int
    environments: Path

    @classmethod
    def with_vllm(cls, folder: Path) -> "Laptop":
        """With the environments of this checkout, so that `serve` starts vLLM."""
        return cls(folder / "home", free_port(), SUPPORT.parents[1] / ".venvs")

    @classmethod
    def of(cls, folder: Path) -> "Laptop":
        """With an environment in which `serve` starts stand-in engines."""
        python = folder / "environments" / "server" / "bin" / "python"
        python.parent.mkdir(parents=True)
        script = SUPPORT / "stand_in_serve.py"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        python.chmod(0o755)
        return cls(folder / "home", free_port(), folder / "environments")

    @property
    def folder(self) -> Path:
        return self.home / "deployments" / NAME

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def manifest(self) -> Path:
        return self.home.parent / "deployment.yaml"

    def write_manifest(self, **spec: Any) -> None:
        """A deployment with a short rollout; `spec` replaces its fields."""
        rollout = {
            "steps": [{"weight": 50, "seconds": 1}],
            "analysis": ANALYSIS,
            "drainSeconds": 20,
            **spec.pop("rollout", {}),
        }
        content = {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": NAME},
            "spec": {"model": MODEL, "port": self.port, "rollout": rollout, **spec},
        }
        self.manifest.write_text(yaml.safe_dump(content))

    def publish(self, version: str, **options: Any) -> None:
        """A version whose engine is started with these options of the stand-in."""
        making = self.home / "making" / version
        making.mkdir(parents=True)
        (making / OPTIONS).write_text(json.dumps({"ttft": TTFT_S, **options}))
        self._deliver(making, version)

    def publish_adapter(self, version: str, **options: Any) -> None:
        """A version that is an adapter on the one base, with these faults of the stand-in."""
        making = self.home / "making" / version
        options = {"ttft": TTFT_S, **options}
        make_adapter(making, base_digest=self._base_manifest().digest(), **options)
        self._deliver(making, version, adapter=self._adapter())

    def publish_base_model(self) -> None:
        """A random model of two layers as the one base, for vLLM."""
        self._run_in_server("make_base(Path(sys.argv[1]))", str(self._base))

    def publish_adapter_model(self, version: str, *, seed: int) -> None:
        """A version with a random adapter on that."""
        making = self.home / "making" / version
        script = (
            "make_adapter_version(Path(sys.argv[1]), base=Path(sys.argv[2]), seed=int(sys.argv[3]))"
        )
        self._run_in_server(script, str(making), str(self._base), str(seed))
        self._deliver(making, version, adapter=self._adapter())

    def _run_in_server(self, script: str, *arguments: str) -> None:
        """Make a model where there is torch."""
        imported = "import sys; from pathlib import Path; from served_version import *; "
        subprocess.run(
            [self.environments / "server/bin/python", "-c", imported + script, *arguments],
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
            check=True,
        )

    def _adapter(self) -> Adapter:
        manifest = self._base_manifest()
        return Adapter(
            rank=4,
            base_uri=self._base.as_uri(),
            base_digest=manifest.digest(),
            base_bytes=sum(file.bytes for file in manifest.files.values()),
        )

    def _base_manifest(self) -> VersionManifest:
        """That of the base, which is made if it is not there yet."""
        if not (self._base / MANIFEST).exists():
            self._base.mkdir(parents=True)
            (self._base / OPTIONS).write_text("{}")
            (self._base / MANIFEST).write_text(manifest_of(self._base).text())
        return manifest_of(self._base)

    @property
    def _base(self) -> Path:
        return self.home / "models" / MODEL / BASES / "base1"

    def publish_model(self, version: str, *, seed: int) -> None:
        """A version with a random model of two layers, which vLLM serves."""
        making = self.home / "making" / version
        making.parent.mkdir(parents=True, exist_ok=True)
        script = "make_version(Path(sys.argv[1]), seed=int(sys.argv[2]))"
        self._run_in_server(script, str(making), str(seed))
        (making / MANIFEST).unlink()
        self._deliver(making, version)

    def publish_candidate(self, version: str, *, kind: str, of: str | None = None) -> None:
        """A version of `candidates`, made from the version `of`."""
        making = self.home / "making" / version
        making.parent.mkdir(parents=True, exist_ok=True)
        source = [] if of is None else [str(self.home / "models" / MODEL / of)]
        subprocess.run(
            [
                self.environments / "server/bin/python",
                SUPPORT / "candidates.py",
                kind,
                making,
                *source,
            ],
            # Beside other work, two threads wait for each other longer than they compute.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
        (making / MANIFEST).unlink(missing_ok=True)
        self._deliver(making, version)

    def _deliver(self, making: Path, version: str, *, adapter: Adapter | None = None) -> None:
        folder = self.home / "models" / MODEL / version
        manifest = manifest_of(making)
        record = _record(version, folder, manifest.digest(), adapter=adapter)
        (making / RECORD).write_text(yaml.safe_dump(record))
        (making / MANIFEST).write_text(manifest_of(making).text())
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, as `publish` does it.
        making.rename(folder)

    def status(self) -> dict[str, Any]:
        """The status as it is stored now."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return content

    def stable(self) -> str | None:
        return (self.status().get("stable") or {}).get("version")

    def candidate(self) -> dict[str, Any]:
        return self.status().get("candidate") or {}

    def rejections(self) -> dict[str, str]:
        """Reasons by version."""
        return {entry["version"]: entry["reason"] for entry in self.status().get("rejected", ())}

    def condition(self, name: str) -> bool:
        conditions = self.status().get("conditions", ())
        return any(c["type"] == name and c["status"] == "True" for c in conditions)

    def environment(self) -> dict[str, str]:
        """What commands run in."""
        environments = str(self.environments)
        return {**os.environ, "TUNESMITH_ENVIRONMENTS": environments, "NO_COLOR": "1"}

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """A command on this home, to its end."""
        return subprocess.run(
            [TUNESMITH, *arguments, "--home", str(self.home)],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment(),
        )

    def replay(self, recording: Path) -> "Replayed":
        """What `tunesmith judge replay` says."""
        done = subprocess.run(
            [TUNESMITH, "judge", "replay", str(recording), "--output", "json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Replayed(done.returncode, json.loads(done.stdout))

    def engines(self) -> dict[str, int]:
        """The process of every replica."""
        records = {
            path.parent.name: json.loads(path.read_text())
            for path in self.folder.glob("replicas/*/process.json")
        }
        return {
            name: record["identity"]["pid"]
            for name, record in records.items()
            if record.get("identity")
        }

    def ports(self, revision: str) -> list[int]:
        """Where the replicas of a revision listen."""
        files = self.folder.glob(f"replicas/{revision}-*/process.json")
        records = [json.loads(path.read_text()) for path in files]
        return [record["port"] for record in records if record.get("identity")]

    @contextmanager
    def deployed(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """`tunesmith deploy`, ended at the end if the test has not."""
        with (self.home.parent / "deploy.log").open("ab") as log:
            process = subprocess.Popen(
                [TUNESMITH, "deploy", str(self.manifest), "--home", str(self.home), *options],
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )
        try:
            yield process
        except AssertionError as error:
            error.add_note(f"the deployment: {json.dumps(self.status())}")
            raise
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=60)


def make_adapter(folder: Path, *, base_digest: str, **options: Any) -> None:
    """The files of a version that is an adapter; the stand-in gives it these faults."""
    adapter = folder / ADAPTER_FOLDER
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / OPTIONS).write_text(json.dumps(options))
    record = AdapterRecord(base_digest=base_digest, rank=4)
    (folder / ADAPTER_RECORD).write_text(record.model_dump_json(by_alias=True))
    probe = {"promptIds": [1, 2, 3], "answerIds": [4, 5], "logprobs": [-0.5, -0.25]}
    (folder / "fingerprints.json").write_text(json.dumps({"probes": [probe]}))


def _record(version: str, folder: Path, digest: str, *, adapter: Adapter | None) -> dict[str, Any]:
    record = ModelVersion(
        metadata=VersionMeta(name=f"{MODEL}-{version}"),
        spec=ModelVersionSpec(
            model=MODEL,
            version=version,
            uri=folder.as_uri(),
            digest=digest,
            scheme=ADAPTER_SCHEME if adapter else "none",
            adapter=adapter,
            files=[
                Artifact(name=OPTIONS, uri=f"{folder.as_uri()}/{OPTIONS}", digest=digest, bytes=1)
            ],
            lineage=Lineage(
                job="test", base_model="python://x/y", base_revision="0", data_digest="0"
            ),
        ),
    )
    return record.model_dump(mode="json", by_alias=True, exclude_none=True)
