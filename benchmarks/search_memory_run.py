"""Searches of 15 trials on the tables, with memory and without; `search_memory.py` runs it.

The second table and every other one after it are asked; the constants of `sources.py` were chosen
on the others. All are remembered.
The memory of a search holds one earlier search of 20 random trials for each of the other tasks, or
the same made hostile: turned upside down, shuffled, or with rates a hundred times too high.
"""

import json
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import optuna
from search_tables import AXES, Table, read_tables, settings

from tunesmith_engine.search_memory.distances import Neighbour, nearest
from tunesmith_engine.search_memory.guard import dropped_sources, is_memorys_turn
from tunesmith_engine.search_memory.proposals import Observed, proposals
from tunesmith_engine.search_memory.records import PastJob, PastTrial, Settings, Task
from tunesmith_engine.search_memory.space import Choices, Space

SEEDS: Final = range(20)
BUDGET: Final = 15
# Three tenths of the budget, as `spec.search.memory` has it by default.
MOST: Final = 4
_EARLIER: Final = 20
SPACE: Final = Space([Choices(path, values) for path, values in AXES.items()])
GRID: Final = settings()
PLACES: Final = {tuple(each.values()): place for place, each in enumerate(GRID)}
RATE: Final = "training.optimizer.learningRate"
# How far the rates of the shifted memory are off, in steps of the grid.
_SHIFT: Final = 4


@dataclass(frozen=True)
class Scene:
    """One search: its table, its seed, and what it remembers."""

    table: Table
    seed: int
    memory: list[PastJob]

    @cached_property
    def neighbours(self) -> Sequence[Neighbour]:
        return nearest(self.memory, self.task)

    @property
    def task(self) -> Task:
        return _task(self.table)

    def value(self, tried: Mapping[str, Any]) -> float:
        return self.table.losses[PLACES[tuple(tried[path] for path in AXES)]]


Search = Callable[[Scene], list[float]]


def tpe(scene: Scene) -> list[float]:
    """Optuna's TPE with its defaults, from nothing."""
    study = _study(scene.seed)
    return [_ask(study, scene)[1] for _ in range(BUDGET)]


def at_random(scene: Scene) -> list[float]:
    """Settings drawn evenly, none twice."""
    return [scene.value(GRID[place]) for place in _chance(scene).sample(range(len(GRID)), BUDGET)]


def grid(scene: Scene) -> list[float]:
    """Five rates by three batch sizes, the rest at its middle, in any order."""
    rates, batches = AXES[RATE][::2], AXES["training.batch.size"][:3]
    rest = {path: values[len(values) // 2] for path, values in AXES.items()}
    points = [
        {**rest, RATE: rate, "training.batch.size": batch} for rate in rates for batch in batches
    ]
    return [scene.value(point) for point in _chance(scene).sample(points, BUDGET)]


def with_memory(scene: Scene, *, guarded: bool = True) -> list[float]:
    """TPE, with memory's turns among its own."""
    study, observed = _study(scene.seed), list[Observed]()
    while len(observed) < BUDGET:
        turn = is_memorys_turn(observed, MOST, direction="minimize")
        if not guarded:
            turn = True
        dropped = dropped_sources(observed, direction="minimize") if guarded else frozenset()
        seen = (
            observed
            if guarded
            else [Observed(each.settings, source=each.source, is_done=False) for each in observed]
        )
        found = (
            proposals(scene.neighbours, scene.task, SPACE, MOST, observed=seen, dropped=dropped)
            if turn
            else []
        )
        if found:
            study.enqueue_trial(_places(found[0].settings))
        tried, value = _ask(study, scene)
        observed.append(Observed(tried, value, found[0].source if found else ""))
    return [each.value or 0.0 for each in observed]


def unguarded(scene: Scene) -> list[float]:
    """The same portfolio, first of all and believed to the end."""
    return with_memory(scene, guarded=False)


def nearest_best(scene: Scene) -> list[float]:
    """The best settings of each of the nearest tasks, one after the other (Feurer et al. 2015)."""
    study, values = _study(scene.seed), list[float]()
    for neighbour in scene.neighbours[:MOST]:
        best = min(neighbour.record.trials, key=lambda trial: trial.value or 0.0)
        study.enqueue_trial(_places(best.settings))
    while len(values) < BUDGET:
        values.append(_ask(study, scene)[1])
    return values


SEARCHES: Final[dict[str, Search]] = {
    "memory": with_memory,
    "memoryUnguarded": unguarded,
    "nearestBest": nearest_best,
    "optunaTpe": tpe,
    "random": at_random,
    "grid": grid,
}
_OF_HOSTILE: Final = {name: SEARCHES[name] for name in ("memory", "memoryUnguarded")}
HOSTILE: Final = ("inverted", "shuffled", "shifted", "halfInverted")


def main(folder: Path) -> None:
    """Print the regrets after 5 and after 15 trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = read_tables(folder / "tables")
    regrets: dict[str, list[list[float]]] = {}
    for name in ("", *HOSTILE):
        searches = SEARCHES if not name else _OF_HOSTILE
        for table in tables[1::2]:
            others = [each for each in tables if each is not table]
            for seed in SEEDS:
                scene = Scene(table, seed, _memory(others, seed, how=name))
                for search, run in searches.items():
                    key = f"{search}:{name}" if name else search
                    regrets.setdefault(key, []).append(_regrets(run(scene), table))
    print(json.dumps({"searches": _told(regrets), "hostile": _costs(regrets), **_facts(tables)}))


def _memory(tables: list[Table], seed: int, *, how: str) -> list[PastJob]:
    chance = random.Random(f"memory {seed}")
    return [
        PastJob(
            job=table.name,
            uid=table.name,
            task=_task(table),
            trials=_trials(table, chance, how="" if how == "halfInverted" and place % 2 else how),
        )
        for place, table in enumerate(tables)
    ]


def _trials(table: Table, chance: random.Random, *, how: str) -> list[PastTrial]:
    losses = list(table.losses)
    if how in {"inverted", "halfInverted"}:
        ordered = sorted(losses)
        turned = dict(zip(ordered, reversed(ordered), strict=True))
        losses = [turned[loss] for loss in losses]
    elif how == "shuffled":
        chance.shuffle(losses)
    elif how == "shifted":
        rates = AXES[RATE]
        moved = [
            {**each, RATE: rates[(rates.index(each[RATE]) - _SHIFT) % len(rates)]} for each in GRID
        ]
        losses = [losses[PLACES[tuple(each.values())]] for each in moved]
    return [
        PastTrial(settings=dict(GRID[place]), value=losses[place])
        for place in chance.sample(range(len(GRID)), _EARLIER)
    ]


def _task(table: Table) -> Task:
    return Task(
        kind=table.kind,
        parameters=table.parameters,
        tokens=table.tokens,
        rows=table.rows,
        mean_row_tokens=table.tokens / table.rows,
        base_loss=table.base_loss,
        # Some rates are worse than the untrained model; hostile memories must not be found out
        # by that alone.
        digest=table.name,
    )


def _study(seed: int) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))


def _ask(study: optuna.Study, scene: Scene) -> tuple[Settings, float]:
    trial = study.ask()
    tried: Settings = {
        path: values[trial.suggest_int(path, 0, len(values) - 1)] for path, values in AXES.items()
    }
    value = scene.value(tried)
    study.tell(trial, value)
    return tried, value


def _places(chosen: Settings) -> dict[str, int]:
    return {path: AXES[path].index(float(value)) for path, value in chosen.items()}


def _chance(scene: Scene) -> random.Random:
    return random.Random(f"search {scene.seed}")


def _regrets(values: list[float], table: Table) -> list[float]:
    """Of the best so far: 0 is the table's best loss, 1 its median."""
    best, middle = min(table.losses), statistics.median(table.losses)
    return [(min(values[: num + 1]) - best) / (middle - best) for num in range(len(values))]


def _told(regrets: Mapping[str, list[list[float]]]) -> dict[str, Any]:
    return {
        name: {
            f"after{num}": {
                "median": round(statistics.median(each[num - 1] for each in runs), 4),
                "mean": round(statistics.fmean(each[num - 1] for each in runs), 4),
                "standardDeviationOfSeeds": round(_spread(runs, num), 4),
            }
            for num in (1, 5, 10, 15)
        }
        for name, runs in regrets.items()
    }


def _spread(runs: list[list[float]], num: int) -> float:
    """Of the means over all tasks, each seed by itself."""
    of_seed = [runs[seed :: len(SEEDS)] for seed in SEEDS]
    return statistics.stdev(statistics.fmean(each[num - 1] for each in seeds) for seeds in of_seed)


def _costs(regrets: Mapping[str, list[list[float]]]) -> dict[str, Any]:
    """What a hostile memory costs: more regret at the end, and trials until as good as cold."""
    cold = regrets["optunaTpe"]
    told = {}
    for name, runs in regrets.items():
        if ":" not in name:
            continue
        differences = [run[-1] - other[-1] for run, other in zip(runs, cold, strict=True)]
        told[name] = {
            "regretMore": round(statistics.fmean(differences), 4),
            "partOfColdRegret": round(sum(differences) / sum(other[-1] for other in cold), 4),
            "budgetMore": round(_trials_until(runs, cold) / BUDGET - 1, 4),
        }
    return told


def _trials_until(runs: list[list[float]], cold: list[list[float]]) -> float:
    """Trials, at the end of which the mean regret is cold's after its 15; by going on in line."""
    means = [statistics.fmean(run[num] for run in runs) for num in range(BUDGET)]
    wanted = statistics.fmean(run[-1] for run in cold)
    for num, mean in enumerate(means):
        if mean <= wanted:
            return num + 1.0
    slope = (means[-6] - means[-1]) / 5
    return BUDGET + (means[-1] - wanted) / slope


def _facts(tables: list[Table]) -> dict[str, Any]:
    return {
        "tasks": {table.name: round(min(table.losses), 4) for table in tables},
        "asked": [table.name for table in tables[1::2]],
        "settings": len(GRID),
        "seeds": len(SEEDS),
        "budget": BUDGET,
        "versions": {name: version(name) for name in ("optuna", "numpy")},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
