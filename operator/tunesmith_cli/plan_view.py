"""What a run would do, for people and for programs; `commands/plan.py` finds it out."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from tunesmith_cli.formats import counted, size
from tunesmith_cli.terminal import plain, table
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.planning.defaults import Setting
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.contracts import StageName

_ORIGINS = {"given": "manifest", "default": "default", "open": "decided by the job"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has, in bytes: memory in all, and free disk where the home folder lies."""

    memory_bytes: int
    free_disk_bytes: int


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan, which of its stages are done before, and what it would need.

    `estimate` is None where the model does not lie on this machine yet.
    """

    plan: Plan
    is_cached: Mapping[StageName, bool]
    settings: tuple[Setting, ...]
    estimate: Estimate | None
    machine: Machine


def plan_as_json(view: PlanView) -> dict[str, JsonValue]:
    """The one object that `plan --output json` prints."""
    return {
        "job": view.plan.job,
        "stages": [
            {
                "name": stage.name,
                "environment": stage.environment,
                "key": stage.key,
                "cached": view.is_cached[stage.name],
            }
            for stage in view.plan.stages
        ],
        "settings": [asdict(each) for each in view.settings],
        "estimate": _estimate_as_json(view.estimate),
        "machine": {
            "memoryBytes": view.machine.memory_bytes,
            "freeDiskBytes": view.machine.free_disk_bytes,
        },
    }


def plan_as_text(view: PlanView) -> str:
    """Stages, settings and needs, below each other."""
    num_cached = sum(view.is_cached.values())
    head = f"{view.plan.job}: {counted(len(view.plan.stages), 'stage')}, {num_cached} done before"
    stages = [
        (stage.name, stage.environment, stage.short_key, _state(view, stage.name))
        for stage in view.plan.stages
    ]
    settings = [
        (each.path, _ORIGINS[each.origin], plain(each.value), _where(each))
        for each in view.settings
    ]
    return "\n\n".join(
        (
            head,
            table([("stage", "environment", "key", "state"), *stages]),
            table([("setting", "from", "value", "matters"), *settings]),
            _needs(view),
        )
    )


def _where(setting: Setting) -> str:
    return "in a cluster only" if setting.is_for_clusters else ""


def _state(view: PlanView, stage: StageName) -> str:
    return "done before" if view.is_cached[stage] else "to do"


def _needs(view: PlanView) -> str:
    if view.estimate is None:
        return "needs: not known before the model lies on this machine; prepare checks them"
    rows = list(_need_rows(view.estimate, view.machine))
    return table([("needs", "at most", "this machine", ""), *rows])


def _need_rows(estimate: Estimate, machine: Machine) -> Iterator[tuple[str, str, str, str]]:
    has = machine.memory_bytes
    for stage, needed in estimate.memory_bytes.items():
        yield f"memory of {stage}", size(needed), size(has), _verdict(needed, has)
    free, disk = machine.free_disk_bytes, estimate.disk_bytes
    yield "disk", size(disk), f"{size(free)} free", _verdict(disk, free)


def _verdict(needed: int, has: int) -> str:
    return "too much" if needed > has else ""


def _estimate_as_json(estimate: Estimate | None) -> JsonValue:
    if estimate is None:
        return None
    memory: dict[str, JsonValue] = {str(key): each for key, each in estimate.memory_bytes.items()}
    return {"memoryBytes": memory, "diskBytes": estimate.disk_bytes}
