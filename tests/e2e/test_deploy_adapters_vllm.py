"""`tunesmith deploy` of adapters with vLLM itself: loaded, exchanged and reloaded as it runs.

Fingerprints come from transformers with each adapter merged, so a replica is ready only if vLLM
answers as base and adapter together do.
"""

import os
import signal
from pathlib import Path

import pytest

from command import processes_of, wait_until
from laptop import MODEL, Laptop
from open_loop import traffic
from openai_wire import call

pytestmark = [pytest.mark.long, pytest.mark.heavy, pytest.mark.timeout(1800)]
START_S = 600.0


def test_adapters_take_over_from_each_other_and_come_back_after_a_crash(tmp_path: Path) -> None:
    laptop = Laptop.with_vllm(tmp_path)
    laptop.publish_base_model()
    laptop.publish_adapter_model("v1", seed=1)
    laptop.write_manifest(adapters={"maxRank": 8}, rollout={"strategy": "blueGreen"})
    with laptop.deployed():
        wait_until(lambda: laptop.condition("Ready"), what="v1", timeout_s=START_S)
        (pid,) = laptop.engines().values()
        first = _ask(laptop)
        with traffic(laptop.endpoint, rate=2.0, timeout_s=20.0) as tally:
            laptop.publish_adapter_model("v2", seed=2)
            wait_until(lambda: laptop.stable() == "v2" and laptop.condition("Ready"), what="v2")
        assert list(laptop.engines().values()) == [pid]
        second = _ask(laptop)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not laptop.condition("Ready"), what="the crash")
        wait_until(lambda: laptop.condition("Ready"), what="v2 again", timeout_s=START_S)
        again = _ask(laptop)

    assert tally.problems() == {}
    assert set(tally.versions()) == {"v1", "v2"}
    assert (first[0], second[0], again[0]) == ("v1", "v2", "v2")
    assert first[1] != second[1]
    assert second[1] == pytest.approx(again[1], abs=1e-4)
    assert processes_of(laptop.home) == []


def _ask(laptop: Laptop) -> tuple[str, list[float]]:
    """The version that answers, and the log-probabilities that it gives a prompt."""
    body = {"model": MODEL, "prompt": [5, 6, 7, 9, 20], "max_tokens": 1, "prompt_logprobs": 0}
    answer = call(laptop.port, "/v1/completions", body)
    views = answer.json["choices"][0]["prompt_logprobs"][1:]
    assert answer.json["model"] == MODEL
    return answer.headers["x-tunesmith-version"], [
        view["logprob"] for views_of in views for view in views_of.values()
    ]
