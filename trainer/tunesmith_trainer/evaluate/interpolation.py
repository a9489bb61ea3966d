"""The sweep of weights between base and tuned model, and where it bends.

WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): the model `base + alpha * (tuned - base)` often
keeps most of the task at a small part of the forgetting. `evaluate` measures both losses along the
way, without training anything; the knee is where going back costs least.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from transformers import PreTrainedModel

from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring
from tunesmith_trainer.models import ADAPTER_SETTINGS

# A bend that is flatter than this, as a part of the way from base to tuned, is noise.
_LEAST_BEND = 0.02


@dataclass(frozen=True, slots=True)
class SweptPoint:
    """Losses (nats per target token) of the weights at `alpha`; 0 is the base, 1 the tuned."""

    alpha: float
    held_out: float
    general: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """The points by alpha, and that of the knee: None where the way does not bend to good."""

    points: tuple[SweptPoint, ...]
    knee: SweptPoint | None

    def as_json(self) -> dict[str, JsonValue]:
        """As `evaluation.json` and the facts have it."""
        return {
            "points": [_as_json(point) for point in self.points],
            "knee": _as_json(self.knee) if self.knee else None,
            "conclusion": self.conclusion(),
        }

    def conclusion(self) -> str:
        """What the sweep says, in a sentence for people."""
        base, tuned = self.points[0], self.points[-1]
        if tuned.held_out >= base.held_out:
            return "Nothing was learnt, so there is no knee."
        if tuned.general <= base.general:
            return "The general loss did not rise: there is no forgetting to go back from."
        if self.knee is None:
            return "The way is straight: what saves forgetting costs as much of the task."
        kept = (base.held_out - self.knee.held_out) / (base.held_out - tuned.held_out)
        saved = (tuned.general - self.knee.general) / (tuned.general - base.general)
        return (
            f"The knee is at {self.knee.alpha:.2g}: {kept:.0%} of the gain on held-out rows is "
            f"kept, and {saved:.0%} of the forgetting saved."
        )


def knee_of(points: Sequence[SweptPoint]) -> SweptPoint | None:
    """The point that lies farthest on the good side of the line from base to tuned.

    Both losses are scaled to the whole way (Satopää et al. 2011, "Kneedle"). None if the tuned
    model is not better on held-out rows or not worse on general text, or no point is on that side.
    """
    base, tuned = points[0], points[-1]
    gain, rise = base.held_out - tuned.held_out, tuned.general - base.general
    if gain <= 0 or rise <= 0:
        return None

    def bend(point: SweptPoint) -> float:
        return (base.held_out - point.held_out) / gain - (point.general - base.general) / rise

    best = max(points[1:-1], key=bend, default=None)
    return best if best is not None and bend(best) > _LEAST_BEND else None


def sweep(
    base: Path,
    tuned: Path,
    *,
    num_points: int,
    ends: tuple[SweptPoint, SweptPoint],
    measure: Callable[[float, PreTrainedModel], SweptPoint],
) -> Sweep:
    """Measure `num_points` weights strictly between `ends`, at equal distances.

    `tuned` is a folder of adapters, beside one model in memory, or of a whole model, beside two.
    """
    alphas = [place / (num_points + 1) for place in range(1, num_points + 1)]
    with _interpolated(base, tuned) as at:
        between = [measure(alpha, at(alpha)) for alpha in alphas]
    points = (ends[0], *between, ends[1])
    return Sweep(points=points, knee=knee_of(points))


@contextmanager
def _interpolated(base: Path, tuned: Path) -> Iterator[Callable[[float], PreTrainedModel]]:
    if not (tuned / ADAPTER_SETTINGS).is_file():
        yield _Mixed(load_for_scoring(base), load_for_scoring(tuned)).at
        return
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(load_for_scoring(base), str(tuned)).eval()
    if model.peft_config["default"].use_dora:
        # NB: DoRA's update is no multiple of its scale, so the weights themselves are mixed.
        yield _Mixed(load_for_scoring(base), model.merge_and_unload(safe_merge=True)).at
        return
    yield _Scaled(model).at


class _Scaled:
    """Adapters whose scale is a part of what was trained: the same weights, without a copy."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers = [module for module in model.modules() if hasattr(module, "set_scale")]

    def at(self, alpha: float) -> PreTrainedModel:
        for layer in self._layers:
            for adapter in layer.active_adapters:
                layer.set_scale(adapter, alpha)
        model: PreTrainedModel = self._model
        return model


class _Mixed:
    """Two models' parameters, mixed into those of the first."""

    def __init__(self, base: PreTrainedModel, tuned: PreTrainedModel) -> None:
        self._model = base
        self._tuned: Mapping[str, torch.Tensor] = dict(tuned.named_parameters())
        self._alpha = 0.0

    def at(self, alpha: float) -> PreTrainedModel:
        # NB: from where the last mixture left off, so that the base needs no third copy: the rest
        # of the way to the tuned weights is (1 - alpha) of the whole.
        step = (alpha - self._alpha) / (1.0 - self._alpha)
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                weight.lerp_(self._tuned[name].to(weight.device), step)
        self._alpha = alpha
        return self._model


def _as_json(point: SweptPoint) -> dict[str, JsonValue]:
    # A loss that overflowed is no JSON.
    numbers = asdict(point)
    return {
        name: value if math.isfinite(value) else None
        for name, value in (
            ("alpha", numbers["alpha"]),
            ("heldOut", numbers["held_out"]),
            ("general", numbers["general"]),
        )
    }
