"""What bf16 costs adapters: PEFT's own sum of base and update against ours, which is in fp32.

The same model, rows, order and first adapters for each seed, trained in fp32, in bf16 as PEFT adds,
and in bf16 with the update kept. Each run's last held-out loss is measured twice: in its own type,
as the run reports it, and in fp32, which is the truth about its weights.
"""

from pathlib import Path
from typing import Any

from commands import artifact, run_job, run_script, summary
from training_throughput import SEEDS, demo_job

STEPS = 6
ARMS = ("fp32", "bf16", "bf16Kept")


def measure(home: Path) -> dict[str, Any]:
    """By arm: speed, what was learnt, and the part of it that the run's own measure misses."""
    outcome = run_job(demo_job(home, seed=0), home=home, until="prepare")
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in SEEDS:
        # In turn, so that whatever else the machine does slows all of them.
        for arm in ARMS:
            model, data = artifact(outcome, "model"), artifact(outcome, "data")
            words = (model, data, arm, str(seed), str(STEPS))
            runs[arm].append(run_script("trainer", "adapter_precision_run.py", *words))
    return {
        "seeds": SEEDS,
        "steps": STEPS,
        **{arm: _summary(of_arm, fp32=runs["fp32"]) for arm, of_arm in runs.items()},
    }


def _summary(runs: list[dict[str, float]], *, fp32: list[dict[str, float]]) -> dict[str, Any]:
    learnt = [run["before"] - run["lossInFp32"] for run in runs]
    missed = [run["lossReported"] - run["lossInFp32"] for run in runs]
    speeds = [run["tokensPerSecond"] for run in runs]
    return {
        "tokensPerSecond": summary(speeds),
        "speedOverFp32": summary(
            [speed / run["tokensPerSecond"] for speed, run in zip(speeds, fp32, strict=True)]
        ),
        "learntNats": summary(learnt),
        "partMissed": summary([lost / gain for lost, gain in zip(missed, learnt, strict=True)]),
    }
