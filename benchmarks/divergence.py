"""Learning rates from usual to absurd: which runs the rules against divergence end, and how soon.

The rules are only noted, and every run goes on to its end, so that one that would have recovered
shows: that its last held-out loss is below the base's. `curves` are kept for the tests of the
rules.
"""

from pathlib import Path
from typing import Any

from commands import artifact, run_job, run_script
from training_throughput import SEEDS, demo_job

STEPS = 24
RATES = {"lora": (2e-4, 3e-3, 1e-2, 0.5), "full": (2e-5, 1e-3, 0.5)}


def measure(home: Path) -> dict[str, Any]:
    """By method and rate, for each seed: base, best and last held-out loss, and the stop."""
    outcome = run_job(demo_job(home, seed=0), home=home, until="prepare")
    model, data = artifact(outcome, "model"), artifact(outcome, "data")
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        for method, rates in RATES.items():
            for rate in rates:
                words = (model, data, method, str(rate), str(seed), str(STEPS))
                run = run_script("trainer", "divergence_run.py", *words)
                runs.setdefault(f"{method} {rate:g}", []).append(run)
    return {
        "steps": STEPS,
        "seeds": SEEDS,
        "runs": {name: [_summary(run) for run in of_rate] for name, of_rate in runs.items()},
        "curves": {name: of_rate[0]["losses"] for name, of_rate in runs.items()},
    }


def _summary(run: dict[str, Any]) -> dict[str, Any]:
    held_out = [loss for _, loss in run["losses"]["heldOut"]]
    return {
        "base": held_out[0],
        "best": min(held_out[1:], default=None),
        "last": held_out[-1],
        "stoppedAt": run["stoppedAt"],
    }
