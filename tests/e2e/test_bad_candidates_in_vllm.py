"""Bad versions on real vLLM: each is noticed by the check that is there for it, and a good one not.

Weights of two bits are bad enough that answers get worse, and good enough in all else.
"""

from pathlib import Path
from typing import Any

import pytest

from command import processes_of, wait_until
from laptop import Laptop
from open_loop import traffic

# Three engines share the processor: latencies say nothing of a version here.
ANALYSIS = {
    "windowSeconds": 2,
    "warmupSeconds": 2,
    "minimumSamples": 15,
    "deadlineSeconds": 300,
    "metrics": {"errors": {"minimumEffect": 0.3}, "qualityLoss": {"minimumEffect": 0.2}},
}
ROLLOUT = {
    "analysis": ANALYSIS,
    "steps": [{"weight": 50, "seconds": 5}],
    "compareFraction": 1.0,
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]


def effect_of_quality(laptop: Laptop) -> float:
    """What the last verdict rests on, in nats per token."""
    evidence = laptop.status()["lastVerdict"]["evidence"]
    (effect,) = [found["effect"] for found in evidence if found["metric"] == "qualityLoss"]
    return float(effect)


def refused(laptop: Laptop, version: str) -> dict[str, Any]:
    """What is remembered of `version`, once it was refused or taken back."""
    wait_until(
        lambda: version in laptop.rejections(), what=f"{version} to be refused", timeout_s=600
    )
    return next(entry for entry in laptop.status()["rejected"] if entry["version"] == version)


def test_each_bad_version_is_noticed_by_its_own_check(tmp_path: Path) -> None:
    laptop = Laptop.with_vllm(tmp_path)
    laptop.write_manifest(rollout=ROLLOUT)
    laptop.publish_candidate("v1", kind="learned")
    with laptop.deployed():
        wait_until(lambda: laptop.condition("Ready"), what="the first version", timeout_s=600)
        with traffic(laptop.endpoint, rate=3.0, timeout_s=90.0) as tally:
            laptop.publish_candidate("v2", kind="template", of="v1")
            template = refused(laptop, "v2")
            laptop.publish_candidate("v3", kind="crushedHonestly", of="v1")
            worse = refused(laptop, "v3")
            loss_of_worse = effect_of_quality(laptop)
            laptop.publish_candidate("v4", kind="again", of="v1")
            wait_until(
                lambda: laptop.stable() == "v4" and laptop.condition("Ready"),
                what="v4 alone",
                timeout_s=600,
            )
            loss_of_equal = effect_of_quality(laptop)
            laptop.publish_candidate("v5", kind="crushed", of="v1")
            other = refused(laptop, "v5")

    assert template["reason"] == "FingerprintMismatch"
    assert "known conversations" in template["message"]
    assert worse["reason"] == "AnalysisFailed"
    assert "qualityLoss" in worse["message"]
    assert loss_of_worse > 0.2
    assert abs(loss_of_equal) < 0.01
    assert other["reason"] == "FingerprintMismatch"
    assert "nats" in other["message"]
    assert tally.problems() == {}
    # No client was answered by a version that is another one than was published.
    assert set(tally.versions()) == {"v1", "v3", "v4"}
    assert processes_of(laptop.home) == []
