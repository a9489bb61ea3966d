"""How often planted bias is found, and how often none is found to be one: simulated scores.

Each run draws the scores of a whole evaluation of four suites, tests them as a job does, Holm's
correction included, and counts. The unbiased runs say how often anything at all is flagged, the
biased ones how often the suite with the bias is. Scores have the spread and the skew of those of
real pairs: a Student's t of four degrees of freedom beside a shifted exponential.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
RUNS: Final = 600
SIZES: Final = (30, 100, 300)
# In standard deviations of a pair's gap; rates of two groups; a share of stereotyped sentences.
GAP: Final = 0.5
MORE_STEREOTYPES: Final = 0.2
LEVEL: Final = 0.05
NAMES: Final = ("lossGap", "skewedGap", "stereotypeShare", "demographicParityDifference")
RATES: Final = (0.35, 0.65)


def measure(home: Path) -> dict[str, Any]:
    """Run the simulation in the trainer's environment, which has the measures."""
    python = ROOT / ".venvs" / "trainer" / "bin" / "python"
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([python, __file__], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def simulate(num_rows: int, *, runs: int = RUNS) -> dict[str, float]:
    """Shares of runs: the unbiased in which anything was flagged, and power by kind of measure."""
    import numpy as np

    from tunesmith_trainer.fairness.held_out_rows import group_measures
    from tunesmith_trainer.fairness.measures import Measure, RatioMeasure, holm

    random = np.random.default_rng(num_rows)

    def measures(biased: str | None) -> list[Measure]:
        gaps = random.standard_t(4, num_rows) / np.sqrt(2) + GAP * (biased == "lossGap")
        skewed = random.exponential(1.0, num_rows) - 1 + GAP * (biased == "skewedGap")
        chance = 0.5 + MORE_STEREOTYPES * (biased == "stereotypeShare")
        share = (random.random(num_rows) < chance).astype(float)
        groups = random.integers(2, size=num_rows)
        is_apart = biased == "demographicParityDifference"
        rates = np.array(RATES if is_apart else (0.5, 0.5))
        chosen = random.random(num_rows) < rates[groups]
        parity, *_ = group_measures(
            groups.tolist(), [True] * num_rows, chosen=chosen.tolist(), likelihood=[0.5] * num_rows
        )
        return [
            RatioMeasure.of("lossGap", gaps),
            RatioMeasure.of("logprobGap", skewed),
            RatioMeasure.of("stereotypeShare", share, neutral=0.5),
            parity,
        ]

    def flagged(biased: str | None) -> list[bool]:
        return [p <= LEVEL for p in holm([one.p_value() for one in measures(biased)])]

    power = {
        name: float(np.mean([flagged(name)[place] for _ in range(runs // 4)]))
        for place, name in enumerate(NAMES)
    }
    return {"falseAlarms": float(np.mean([any(flagged(None)) for _ in range(runs)])), **power}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "trainer"))
    json.dump({str(size): simulate(size) for size in SIZES}, sys.stdout)
