"""Jobs of two workers on a real node: how far they are, what is taken from them, what remains."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import yaml

from cluster import Cluster, connected, kubectl

_HELPDESK = Path(__file__).parents[2] / "examples/helpdesk/job.yaml"
# Long enough to lose something in the middle, and with a checkpoint before that.
STEPS = 24
LOST_AFTER = 10


def two_workers(name: str, **fields: Any) -> dict[str, Any]:
    """The helpdesk job, trained by two pods and judged by its held-out loss alone."""
    job: dict[str, Any] = yaml.safe_load(_HELPDESK.read_text(encoding="utf-8"))
    spec = job["spec"]
    del spec["training"]["epochs"]
    spec["training"] |= {
        "maxSteps": STEPS,
        "evaluateEverySteps": STEPS,
        "batch": {"size": 4, "microBatchSize": 2},
        "precision": "fp32",
    }
    spec["checkpoint"] = {"everySteps": 4}
    spec["evaluation"] = {"generation": {"metric": "none"}}
    spec["resources"] = {"workers": 2, "cpu": "250m"}
    return job | {"metadata": {"name": name}, "spec": spec | fields}


@dataclass(frozen=True, slots=True)
class Told:
    """What the status said, and when."""

    at: float
    phase: str
    stage: str
    step: int
    percent: float
    words: tuple[str, ...]


@dataclass(slots=True)
class Watched:
    """A job whose status is noted down as it changes."""

    cluster: Cluster
    name: str
    told: list[Told] = field(default_factory=list)

    @property
    def status(self) -> dict[str, Any]:
        """The status as it is now."""
        found: dict[str, Any] = self.cluster.get("FineTuneJob", self.name).get("status", {})
        return found

    @property
    def step(self) -> int:
        """The last step of training that was told."""
        return self.told[-1].step if self.told and self.told[-1].stage == "train" else 0

    def wait(self, until: Callable[[], bool], *, what: str, timeout_s: float = 600) -> float:
        """Seconds until it holds."""
        started = time.monotonic()
        while not until():
            assert time.monotonic() < started + timeout_s, f"{what}: {self.status}"
            assert self.status.get("phase") != "Failed", self.status
            time.sleep(0.25)
        return time.monotonic() - started

    def further_at(self) -> float:
        """When training was told to be beyond the checkpoint from which it went on."""
        resumed = next(
            each["resumedFromStep"] for each in self.status["attempts"] if each["stage"] == "train"
        )
        training = [each for each in self.told if each.stage == "train"]
        # NB: workers of a lost head are further for a while, and what they do does not count.
        behind = max(number for number, each in enumerate(training) if each.step <= resumed)
        return training[behind + 1].at

    def train(self) -> None:
        """Wait until the losses of the finished model are known."""
        self.wait(lambda: self.has_done("evaluate"), what="never evaluated", timeout_s=900)

    def has_done(self, stage: str) -> bool:
        """Whether a stage has succeeded."""
        stages = self.status.get("stages", [])
        return any((each["name"], each["state"]) == (stage, "Succeeded") for each in stages)

    def loss(self) -> float:
        """The held-out loss of the finished model."""
        return next(
            float(each["value"])
            for each in self.status["evaluation"]
            if (each["suite"], each["metric"], each["split"]) == ("heldOut", "loss", "tuned")
        )

    def curve(self) -> list[dict[str, Any]]:
        """The points of its training, from the volume, which is a folder of this machine."""
        claim = f"{self.name}-tunesmith"
        volume = self.cluster.kubectl("get", "pvc", claim, "--output=jsonpath={.spec.volumeName}")
        folder = kubectl("get", "pv", volume, "--output=jsonpath={.spec.hostPath.path}")
        (path,) = Path(folder).glob(f"jobs/{self.name}/stages/train/*/artifacts/curve.jsonl")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def pods(self, group: str = "") -> list[str]:
        """Names of the pods of its training that are there, of the head or of workers alone."""
        selector = f"tunesmith.dev/job={self.name},ray.io/node-type{f'={group}' if group else ''}"
        names = "jsonpath={.items[*].metadata.name}"
        return self.cluster.kubectl(
            "get", "pods", f"--selector={selector}", f"--output={names}"
        ).split()

    def note(self) -> None:
        """Note the status down if it says anything new."""
        status = self.status
        progress = status.get("progress") or {}
        words = tuple(
            sorted(
                {
                    f"{each['reason']}: {each['message']}"
                    for each in status.get("conditions", [])
                    if each["type"] in {"Progressing", "Ready", "Failed"}
                }
                | {f"progress: {progress.get('message', '')}"}
            )
        )
        new = Told(
            time.monotonic(),
            str(status.get("phase", "")),
            str(progress.get("stage", "")),
            int(progress.get("step") or 0),
            float(progress.get("percent") or 0),
            words,
        )
        if not self.told or _without_time(self.told[-1]) != _without_time(new):
            self.told.append(new)


def _without_time(told: Told) -> tuple[Any, ...]:
    return (told.phase, told.stage, told.step, told.percent, told.words)


@contextmanager
def watched(cluster: Cluster, name: str, **fields: Any) -> Iterator[Watched]:
    """A job of two workers, in the middle of its training; it is deleted afterwards."""
    answer = cluster.apply(two_workers(name, **fields))
    assert answer.is_success, answer.text
    stop = Event()
    with connected() as http:
        job = Watched(Cluster(http, cluster.namespace), name)
        thread = Thread(target=_note_until, args=(job, stop))
        thread.start()
        try:
            yield job
        finally:
            stop.set()
            thread.join()
            cluster.kubectl("delete", "ftj", name, "--cascade=foreground", "--timeout=180s")


def _note_until(job: Watched, stop: Event) -> None:
    while not stop.wait(0.5):
        job.note()
