"""`tunesmith deploy` with real vLLM engines: a new version comes in, and nothing is cut off."""

from pathlib import Path

import pytest

from command import processes_of, wait_until
from laptop import NAME, Laptop
from open_loop import traffic

# Two engines and their starts share the processor: latencies say nothing of a version here.
ANALYSIS = {
    "windowSeconds": 2,
    "warmupSeconds": 2,
    "minimumSamples": 15,
    "deadlineSeconds": 300,
    "metrics": {"errors": {"minimumEffect": 0.3}, "incomplete": {"minimumEffect": 0.3}},
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_a_second_version_is_promoted_and_every_answer_is_whole(tmp_path: Path) -> None:
    laptop = Laptop.with_vllm(tmp_path)
    steps = [{"weight": 50, "seconds": 5}]
    laptop.write_manifest(rollout={"analysis": ANALYSIS, "steps": steps})
    laptop.publish_model("v1", seed=0)
    with laptop.deployed():
        wait_until(lambda: laptop.condition("Ready"), what="the first version")
        with traffic(laptop.endpoint, rate=3.0, timeout_s=60.0) as tally:
            laptop.publish_model("v2", seed=1)
            wait_until(
                lambda: laptop.stable() == "v2" and laptop.condition("Ready"),
                what="v2 alone",
                timeout_s=600,
            )
        answered = laptop.run("chat", NAME, text="Hello?\n")

    assert tally.problems() == {}
    assert set(tally.versions()) == {"v1", "v2"}
    assert "version v2" in answered.stderr
    assert processes_of(laptop.home) == []
