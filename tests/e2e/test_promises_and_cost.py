"""What a deployment promises and what it costs: from its replicas' counters to its status."""

import json
import time
from pathlib import Path

import httpx
import pytest

from command import wait_until
from laptop import NAME, TTFT_S, Laptop
from open_loop import traffic

# One for each second that a replica holds its accelerator.
PRICE = 3600.0
TOKENS = 8


def test_failures_burn_what_was_promised_and_every_request_has_its_cost(tmp_path: Path) -> None:
    laptop = Laptop.of(tmp_path)
    laptop.publish("v1")
    slo = {
        # So little may fail that half a minute of failures is an hour's allowance many times over.
        "availability": {"objective": 0.9999},
        "ttft": {"seconds": TTFT_S / 2, "objective": 0.9},
        "itl": {"seconds": 10, "objective": 0.95},
    }
    laptop.write_manifest(
        slo=slo, cost={"pricePerAcceleratorHour": PRICE}, resources={"gpusPerReplica": 1}
    )
    with laptop.deployed():
        wait_until(lambda: laptop.condition("Ready"), what="the first version")
        with traffic(laptop.endpoint, rate=20.0, timeout_s=5.0) as tally:
            began = time.monotonic()
            wait_until(lambda: len(tally.outcomes) > 200, what="answers that are whole")
            assert not laptop.condition("SLOBurning")
            for port in laptop.ports(laptop.status()["stable"]["revision"]):
                httpx.post(f"http://127.0.0.1:{port}/faults", json={"errors": 0.5})
            wait_until(lambda: laptop.condition("SLOBurning"), what="the burn")
            seconds = time.monotonic() - began
            told = laptop.status()["monitoring"]
            num_whole = sum(outcome.problem is None for outcome in tally.outcomes)
            shown = json.loads(laptop.run("watch", NAME, "--output", "json").stdout)

    slos = {each["name"]: each for each in told["slos"]}
    assert slos["availability"]["burning"] is True
    assert slos["availability"]["budgetRemaining"] < 0
    # No answer is quick enough, so ten times as many are slow as may be.
    assert slos["ttft"]["burnRate"] == pytest.approx(10, rel=0.05)
    assert slos["itl"] == {
        "name": "itl",
        "objective": 0.95,
        "burnRate": 0,
        "budgetRemaining": 1,
        "burning": False,
    }
    cost = told["cost"]
    # Replicas are read every five seconds, and this counts from the first answer on.
    assert cost["perRequest"] == pytest.approx(seconds / num_whole, rel=0.4)
    assert cost["perMillionTokens"] == pytest.approx(1e6 * cost["perRequest"] / TOKENS, rel=0.1)
    assert cost["acceleratorHours"] == pytest.approx(seconds / 3600, rel=0.6)
    assert shown["cost"]["perRequest"] > 0
    # And 503, where Envoy gives a replica that fails so often a rest.
    assert "status 500" in tally.problems()
