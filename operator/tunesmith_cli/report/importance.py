"""Which parameters of a search mattered: PED-ANOVA (Watanabe, Bansal & Hutter 2023).

arXiv 2304.10255, equation for the global importance of the best part of the trials: how far the
values of the best trials are spread otherwise than those of all of them, in Pearson's divergence.
Ours has Parzen densities over places from 0 to 1, and no other package: a report is written where
Optuna is not installed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

# The part of the trials that counts as the best, as Optuna's evaluator has it; two of twenty would
# have any parameter in common, so there are at least five.
_BEST_PART: Final = 0.1
_LEAST_BEST: Final = 5
_PLACES: Final = 50


def importances(places: Mapping[str, Sequence[float]], losses: Sequence[float]) -> dict[str, float]:
    """The part of each parameter in what the best trials have in common, the greatest first.

    `places` are where each trial lies on each parameter, from 0 to 1, in the order of `losses`.
    Empty where there are too few trials to say, or all parameters are as important as none.
    """
    num_best = max(_LEAST_BEST, math.ceil(_BEST_PART * len(losses)))
    if len(losses) <= 2 * num_best:
        return {}
    ranked = sorted(range(len(losses)), key=lambda trial: losses[trial])[:num_best]
    found = {
        name: _divergence([values[trial] for trial in ranked], values)
        for name, values in places.items()
    }
    total = sum(found.values())
    if total <= 0:
        return {}
    parts = {name: value / total for name, value in found.items()}
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def _divergence(best: Sequence[float], everything: Sequence[float]) -> float:
    """Pearson's: the mean of (density of the best / density of all - 1)², weighted by the latter.

    A parameter that had one value only cannot have mattered.
    """
    if max(everything) == min(everything):
        return 0.0
    among_best, among_all = _density(best), _density(everything)
    return sum(q * (p / q - 1) ** 2 for p, q in zip(among_best, among_all, strict=True))


def _density(values: Sequence[float]) -> list[float]:
    """Shares of the places along a parameter, with Scott's bandwidth."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    width = max(1.06 * spread * len(values) ** -0.2, 0.05)
    raw = [
        sum(
            math.exp(-(((place + 0.5) / _PLACES - value) ** 2) / (2 * width**2)) for value in values
        )
        # So that no density is nothing where another is something.
        / len(values)
        + 1e-6
        for place in range(_PLACES)
    ]
    return [each / sum(raw) for each in raw]
