"""A candidate that nobody asks: its quality is judged on the version's own prompts."""

import json
import random
import urllib.request
from pathlib import Path
from typing import Any

from command import wait_until
from laptop import ANALYSIS, Laptop


def test_quality_is_judged_without_one_request_of_a_client(tmp_path: Path) -> None:
    laptop = Laptop.of(tmp_path)
    analysis = {**ANALYSIS, "metrics": {**ANALYSIS["metrics"], "qualityLoss": {}}}
    laptop.write_manifest(rollout={"analysis": analysis})
    known = {"fingerprints": str(_fingerprints(tmp_path)), "compare-seconds": 0.1}
    laptop.publish("v1", **known)
    with laptop.deployed():
        wait_until(lambda: laptop.condition("Ready"), what="the first version")
        laptop.publish("v2", loss=0.8, **known)
        wait_until(lambda: bool(laptop.rejections()), what="the rollback of v2")
        worse = laptop.status()["lastVerdict"]
        laptop.publish("v3", **known)
        wait_until(lambda: "20 prompts" in _verdict(laptop, "v3"), what="all prompts of v3")
        accepted = [_state(port)["accepted"] for port in _ports(laptop)]

    assert laptop.rejections() == {"v2": "AnalysisFailed"}
    assert (worse["metric"], worse["cause"]) == ("qualityLoss", "Worse")
    assert "0 requests of each version" in _verdict(laptop, "v3")
    assert laptop.stable() == "v1"
    assert len(accepted) == 2
    assert set(accepted) == {0}


def _fingerprints(folder: Path) -> Path:
    rng = random.Random(7)
    probes = [
        {
            "promptIds": [rng.randrange(1000) for _ in range(5)],
            "answerIds": [4, 5],
            "logprobs": [-0.5, -0.25],
        }
        for _ in range(20)
    ]
    path = folder / "fingerprints.json"
    path.write_text(json.dumps({"probes": probes}))
    return path


def _verdict(laptop: Laptop, version: str) -> str:
    verdict = laptop.status().get("lastVerdict") or {}
    return str(verdict.get("message", "")) if verdict.get("version") == version else ""


def _ports(laptop: Laptop) -> list[int]:
    records = (
        json.loads(path.read_text()) for path in laptop.folder.glob("replicas/*/process.json")
    )
    return [record["port"] for record in records if record.get("identity")]


def _state(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/tunesmith/state", timeout=5) as answer:
        content: dict[str, Any] = json.load(answer)
    return content
