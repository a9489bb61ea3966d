"""`tunesmith plan`: what a run would do and need, without running anything."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from pydantic import JsonValue

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.reasons import Reason
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.formats import counted, percent, size
from tunesmith_cli.inputs import Manifest, open_manifest
from tunesmith_cli.terminal.style import plain, table
from tunesmith_engine.capacity import (
    Shortage,
    accelerators_here,
    free_disk_bytes,
    memory_bytes,
    room_of_worker,
)
from tunesmith_engine.estimates import Estimate, estimate, longest_row_of, speed_seconds
from tunesmith_engine.local.data_description import DataDescription, describe_data
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.runner import shortage_here, teacher_here
from tunesmith_engine.planning.defaults import Setting, describe
from tunesmith_engine.planning.plan import Plan, plan
from tunesmith_engine.sources.fingerprints import fingerprint_job
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.resolver import local_model_path
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.memory_fit import TrainingFit

_ORIGINS = {"given": "manifest", "default": "default", "open": "decided by the job"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has, in bytes: memory in all, and free disk where the home folder lies."""

    memory_bytes: int
    free_disk_bytes: int


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan, which of its stages are done before, and what it would need.

    `estimate` is None where the model does not lie on this machine yet, `data` where the data does
    not.
    """

    plan: Plan
    is_cached: Mapping[str, bool]
    settings: tuple[Setting, ...]
    estimate: Estimate | None
    machine: Machine
    shortage: Shortage | None = None
    data: DataDescription | None = None


def run(options: argparse.Namespace) -> int:
    """Read the sources, work out the keys, and print what is known."""
    view = read_plan(
        open_manifest(options.file),
        home=HomeFolder(options.home),
        environments=Environments.discover(),
    )
    if options.output == "json":
        print(json.dumps(plan_as_json(view), indent=1))
    else:
        print(plan_as_text(view))
    # What `run` would say; what was planned is shown all the same.
    if view.data is not None and view.data.problem is not None:
        raise CommandError(view.data.problem, reason=Reason.DATASET_INVALID)
    if view.shortage is not None:
        raise CommandError(view.shortage.message, reason=view.shortage.reason)
    return EXIT_DONE


def read_plan(manifest: Manifest, *, home: HomeFolder, environments: Environments) -> PlanView:
    """What a run of the manifest in this home folder would find."""
    spec, name = manifest.job.spec, manifest.job.metadata.name
    # Keys digest the data, so that it must be read; a run would read the same again.
    fingerprints = fingerprint_job(spec, base=manifest.base, cache=home.cache, secrets=home.secrets)
    planned = plan(manifest.job, fingerprints=fingerprints)
    prepare = planned.stage(PREPARE.name)
    prepared = home.result(name, stage=prepare.name, key=prepare.key)
    data = describe_data(
        spec.dataset,
        base=manifest.base,
        cache=home.cache,
        secrets=home.secrets,
        environments=environments,
    )
    return PlanView(
        plan=planned,
        is_cached={
            stage.name: home.result(name, stage=stage.name, key=stage.key) is not None
            for stage in planned.stages
        },
        settings=tuple(_settings(manifest, prepared, data)),
        estimate=_estimate(manifest, prepared, home=home),
        machine=Machine(memory_bytes=memory_bytes(), free_disk_bytes=free_disk_bytes(home.root)),
        shortage=shortage_here(planned, home=home, base=manifest.base),
        data=data,
    )


def _settings(
    manifest: Manifest, prepared: StageResult | None, data: DataDescription | None
) -> Iterator[Setting]:
    """Every setting, with what prepare, or else a look at the first rows, has found in the data."""
    found = prepared.facts.get("format") if prepared else data and data.format
    for setting in describe(manifest.job.spec):
        is_found = (setting.path, setting.value) == ("dataset.format", "auto") and found
        yield replace(setting, value=f"auto: {found}") if is_found else setting


def _estimate(
    manifest: Manifest, prepared: StageResult | None, *, home: HomeFolder
) -> Estimate | None:
    spec = manifest.job.spec
    # Never downloads: a look at a plan must not fetch gigabytes.
    path = local_model_path(spec.model, base=manifest.base, cache=home.cache)
    if path is None:
        return None
    # Without prepare's word the estimate takes rows of sequenceLength, which is the upper bound.
    longest = longest_row_of(prepared) if prepared else None
    room = room_of_worker(spec.resources, accelerators=accelerators_here(spec.resources))
    teacher = teacher_here(spec, prepared, base=manifest.base, cache=home.cache)
    return estimate(spec, read_model_facts(path), longest_row=longest, room=room, teacher=teacher)


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
        "data": asdict(view.data) if view.data else None,
        "settings": [asdict(setting) for setting in view.settings],
        "estimate": {
            "memoryBytes": dict(view.estimate.memory_bytes),
            "diskBytes": view.estimate.disk_bytes,
            "microBatchSize": view.estimate.fit.micro_batch_size,
            "accumulated": view.estimate.fit.accumulated,
            "gradientCheckpointing": view.estimate.fit.gradient_checkpointing,
            "workerBytes": asdict(view.estimate.fit.worker),
            "speedSeconds": [*(speed_seconds(view.plan.spec) or ())],
            "draftShare": view.estimate.draft_share,
        }
        if view.estimate
        else None,
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
        (
            stage.name,
            stage.environment,
            stage.short_key,
            "done before" if view.is_cached[stage.name] else "to do",
        )
        for stage in view.plan.stages
    ]
    settings = [
        (
            setting.path,
            _ORIGINS[setting.origin],
            plain(setting.value),
            "in a cluster only" if setting.is_for_clusters else "",
        )
        for setting in view.settings
    ]
    return "\n\n".join(
        (
            head,
            *([data_line(view.data)] if view.data else []),
            table([("stage", "environment", "key", "state"), *stages]),
            table([("setting", "from", "value", "matters"), *settings]),
            _needs(view),
            *([_step(view.estimate.fit)] if view.estimate else []),
            *_speed(view.plan.spec),
            *_draft(view.estimate),
        )
    )


def data_line(data: DataDescription) -> str:
    """Such as `data: tickets.csv.gz: csv with ';', gzip; rows of promptCompletion`."""
    separator = {None: "", "\t": " with tabs"}.get(data.separator, f" with '{data.separator}'")
    syntax = f"{data.syntax}{separator}" if data.syntax else "of no known syntax"
    packed = f", {data.compression}" if data.compression else ""
    rows = f"rows of {data.format}" if data.format else "rows of no known format"
    more = f", and {counted(data.more_files, 'more file')}" if data.more_files else ""
    return f"data: {data.file}: {syntax}{packed}; {rows}{more}"


def _needs(view: PlanView) -> str:
    if view.estimate is None:
        return "needs: not known before the model lies on this machine; prepare checks them"
    has, free = view.machine.memory_bytes, view.machine.free_disk_bytes
    # Stages run one after the other: each by itself must fit into the memory.
    rows = [
        (f"memory of {stage}", size(needed), size(has), "too much" if needed > has else "")
        for stage, needed in view.estimate.memory_bytes.items()
    ]
    disk = view.estimate.disk_bytes
    rows.append(("disk", size(disk), f"{size(free)} free", "too much" if disk > free else ""))
    return table([("needs", "at most", "this machine", ""), *rows])


def _speed(spec: FineTuneJobSpec) -> list[str]:
    """What measuring the speed takes, where it is measured."""
    seconds = speed_seconds(spec)
    if seconds is None:
        return []
    (least, most), compared = seconds, list(_compared(spec))
    told = (
        f"tokens/s {' and '.join(compared)}: verify loads vLLM "
        f"{'once' if len(compared) == 1 else 'twice'} more, {least} to {most} s for a small model "
        "(verification.measureSpeed: false spares it)"
    )
    return [told]


def _compared(spec: FineTuneJobSpec) -> Iterator[str]:
    """What is measured beside what."""
    scheme = spec.compression.quantize.scheme
    if set(spec.compression.schemes) != {"none"}:
        yield f"of {scheme} are measured beside the unquantized model"
    if spec.serving.speculative is not None:
        yield "with guessed tokens are measured beside those without"


def _draft(needs: Estimate | None) -> list[str]:
    """What a draft has to guess before it pays, by what it costs at least."""
    if needs is None or needs.draft_share is None:
        return []
    share = percent(needs.draft_share)
    told = (
        f"the draft has {share} of the parameters of its model, and a guess costs about that part "
        f"of a pass: it pays where more than {share} of the guesses are taken, which verify counts"
    )
    return [told]


def _step(fit: TrainingFit) -> str:
    """How a step of training is cut, and what a worker then holds, part by part."""
    cut = (
        f"a step of training: {fit.accumulated} x {counted(fit.micro_batch_size, 'row')} on each "
        f"worker, gradientCheckpointing: {fit.gradient_checkpointing}"
    )
    where = "accelerator" if fit.on_accelerators else "memory"
    parts = [(name, size(part)) for name, part in asdict(fit.worker).items()]
    total = ("all", size(fit.worker.total))
    return f"{cut}\n\n{table([(f'{where} of a worker', 'at its peak'), *parts, total])}"
