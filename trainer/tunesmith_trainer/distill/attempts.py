"""The ratios of a ladder: the first whose recovered model keeps the gate is the one that goes on.

Each has a folder of its own, where a killed attempt goes on; a ratio that was refused is not tried
again. One after another, for each takes a recovery: the largest cut that holds is the smallest
model, and none behind it is looked at.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.evaluate.suites import HELD_OUT

Attempt = Callable[[StageRequest, Reporter], StageOutcome]
_REFUSED: Final = "refused.json"


def first_kept(request: StageRequest, reporter: Reporter, *, attempt: Attempt) -> StageOutcome:
    """What `attempt` makes of the first ratio that is not refused; of the last one in any case.

    Raises:
        StageError: as `attempt` does.
    """
    ratios, tried, warnings = ratios_of(request), list[JsonValue](), list[str]()
    for place, ratio in enumerate(ratios):
        output = Path(request.output) / f"ratio-{ratio:g}"
        is_last = place + 1 == len(ratios)
        if (output / _REFUSED).is_file():
            told = json.loads((output / _REFUSED).read_text(encoding="utf-8"))
        else:
            output.mkdir(parents=True, exist_ok=True)
            outcome = attempt(_request(request, ratio, output, is_last=is_last), reporter)
            told = _told(ratio, outcome)
            if is_last or told["accepted"]:
                facts = {**outcome.facts, "tried": [*tried, told]}
                return replace(outcome, facts=facts, warnings=[*warnings, *outcome.warnings])
            write_atomically(output / _REFUSED, json.dumps(told))
        tried.append(told)
        warnings.append(
            f"compression.prune.ratio {ratio:g} lost too much (recovery {told['recovery']:.4f}, "
            f"{told['kl']:.4f} nats a token from the tuned model); {ratios[place + 1]:g} was tried "
            "instead."
        )
    raise ValueError("the last ratio is never left out")


def ratios_of(request: StageRequest) -> list[float]:
    """That of the manifest, and those of its ladder."""
    compression = request.spec.compression
    prune, ladder = compression.prune, compression.ladder
    if prune is None or prune.ratio is None or ladder is None:
        return []
    return [prune.ratio, *ladder.ratios]


def _request(request: StageRequest, ratio: float, output: Path, *, is_last: bool) -> StageRequest:
    compression = request.spec.compression
    prune = compression.prune
    if prune is None:
        raise ValueError("a ladder of ratios needs spec.compression.prune")
    changes: dict[str, Any] = {"ratio": ratio}
    if not is_last:
        changes["gate"] = prune.gate.model_copy(update={"fallback": "unpruned"})
    pruned = compression.model_copy(update={"prune": prune.model_copy(update=changes)})
    spec = request.spec.model_copy(update={"compression": pruned})
    return request.model_copy(update={"spec": spec, "output": str(output)})


def _told(ratio: float, outcome: StageOutcome) -> dict[str, Any]:
    facts: Any = outcome.facts
    recovered = facts["ladder"][-1]
    return {
        "ratio": ratio,
        "accepted": facts["accepted"],
        "parameters": recovered["parameters"],
        "bytes": recovered["bytes"],
        "loss": recovered["losses"][HELD_OUT],
        "kl": recovered["kl"],
        "recovery": facts["recovery"][HELD_OUT],
    }
