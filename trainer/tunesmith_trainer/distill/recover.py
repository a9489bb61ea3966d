"""Train the pruned model to answer as the whole one does: train's own loop, with a teacher.

One process, on the accelerator if there is one. Checkpoints, packing and the best step are those of
the loop; a run that is killed goes on from its newest checkpoint, if the cut is the same.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.prune import Recovery
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import CHECKPOINTS, Reporter, StageRequest
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.recovery_spec import recovering
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.devices import (
    current_device,
    has_bf16,
    prefer_deterministic_kernels,
    use_tensor_cores,
)
from tunesmith_trainer.distill.teacher_cache import CachingPass
from tunesmith_trainer.models import ADAPTER_SETTINGS, load_model, merged_model
from tunesmith_trainer.train.adapters import as_frozen, build_trainable
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig, resolve_config
from tunesmith_trainer.train.dataloader import Sampler
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.fencing import fence_of
from tunesmith_trainer.train.history import KL, History
from tunesmith_trainer.train.loop import Loop, autocast
from tunesmith_trainer.train.measures import build_measures, evaluation_cost, sample_of
from tunesmith_trainer.train.memory_plan import settled_request
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.distillation import (
    Distillation,
    Knowledge,
    TeacherCache,
    TeacherDivergence,
    TeacherLogits,
)
from tunesmith_trainer.train.objectives.objective import Measure
from tunesmith_trainer.train.packing_choice import decide_packing
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.run_parts import build_sampler, lay_out_of_rows, sources_of

CURVE: Final = "recovery.jsonl"
_CACHE: Final = "teacher-cache"
# Held-out targets on which the divergence is measured along the way.
_MEASURED_TARGETS: Final = 4096

LoadTeacher = Callable[[], PreTrainedModel]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The folder of the weights with the lowest held-out loss, adapters or a model; how it went."""

    folder: Path
    history: History
    config: TrainConfig
    resumed_from: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What a recovery is made of; `request` has the spec of the run itself."""

    request: StageRequest
    prepared: Prepared
    recovery: Recovery
    config: TrainConfig
    group: WorkerGroup
    rows: TokenRows
    sampler: Sampler
    reporter: Reporter

    @property
    def output(self) -> Path:
        return Path(self.request.output)

    def autocast(self) -> AbstractContextManager[object]:
        return autocast(self.group.device, precision=self.config.precision)


def recover(
    request: StageRequest,
    prepared: Prepared,
    *,
    replay: TokenRows | None,
    pruned: Path,
    cut_digest: str,
    load_teacher: LoadTeacher,
    reporter: Reporter,
) -> Recovered:
    """Train the model in `pruned`; the best weights are written below the stage's output.

    `prepared` and `replay` are in its tokens, `replay` where the job has such rows.
    `cut_digest` tells one cut from another: no checkpoint of one goes on in the other.

    Raises:
        VerdictError: the loss has exploded, or is no number.
        BadInputError: packing is asked for, and this model does not keep packed rows apart.
    """
    recovery = request.spec.compression.prune.recovery if request.spec.compression.prune else None
    if recovery is None:
        raise ValueError("a recovery needs spec.compression.prune")
    precision = precision_of(request)
    request = settled_request(
        request.model_copy(update={"spec": recovering(request.spec)}), precision=precision
    )
    config = _config(request, prepared, precision=precision)
    use_tensor_cores(config.precision)
    prefer_deterministic_kernels()
    group = WorkerGroup(rank=0, size=1, device=current_device())
    model = build_trainable(pruned, config=config, device=group.device)
    config = replace(config, packing=_packing(model, request, prepared, config, group))
    replay = replay if config.replay_ratio else None
    run = _Run(
        request=request,
        prepared=prepared,
        recovery=recovery,
        config=config,
        group=group,
        rows=prepared.train if replay is None else prepared.train.followed_by(replay),
        sampler=build_sampler(config, prepared, replay),
        reporter=reporter,
    )
    loop = _loop(model, run, load_teacher=load_teacher, cut_digest=cut_digest)
    history = loop.run()
    history.write_curve(run.output / CURVE)
    loop.load_best()
    folder = export_tuned(
        model, base=pruned, base_uri=request.spec.model.uri, output=run.output, group=group
    )
    return Recovered(folder, history, config, loop.resumed_from)


def precision_of(request: StageRequest) -> Literal["bf16", "fp32"]:
    """The type that the tuned model was trained in, where this machine has it."""
    given = request.spec.training.precision
    resolved = request.inputs[TRAIN.name].facts.get("resolved")
    trained = resolved.get("training.precision") if isinstance(resolved, dict) else None
    wanted = trained if given == "auto" else given
    return "bf16" if wanted == "bf16" and has_bf16(current_device()) else "fp32"


def _config(
    request: StageRequest, prepared: Prepared, *, precision: Literal["bf16", "fp32"]
) -> TrainConfig:
    config = resolve_config(
        request.spec,
        num_rows=len(prepared.train),
        precision=precision,
        evaluation_cost=evaluation_cost(
            prepared, batch_size=request.spec.training.batch.size, is_attacked=False
        ),
    )
    return replace(config, precision=precision)


def _packing(
    model: Any,
    request: StageRequest,
    prepared: Prepared,
    config: TrainConfig,
    group: WorkerGroup,
) -> Literal["bfd", "none"]:
    decision = decide_packing(
        model,
        config=config,
        tokens=prepared.train,
        group=group,
        autocast=partial(autocast, group.device, precision=config.precision),
        folder=Path(request.output),
    )
    return decision.packing


def _loop(model: Any, run: _Run, *, load_teacher: LoadTeacher, cut_digest: str) -> Loop:
    fence = fence_of(None, output=run.output)
    # A process of a killed attempt may live for a moment: it is refused its next checkpoint.
    fence.take()
    objective, measures = _parts(run, load_teacher=load_teacher)
    config, recovery = run.config, run.recovery.model_dump(mode="json", by_alias=True)
    progress = ProgressReporter(
        run.reporter,
        total_steps=config.num_steps,
        curve=run.output / CURVE,
        message="recovering",
    )
    return Loop(
        model,
        config=config,
        objective=objective,
        sampler=run.sampler,
        measures=measures,
        group=run.group,
        checkpoints=Checkpoints(
            run.output / CHECKPOINTS,
            config_digest=digest_json([config.digest(), cut_digest, recovery]),
            keep=config.checkpoint.keep,
            settings=config.resolved(),
            fence=fence,
        ),
        name_rows=partial(sources_of, run.prepared),
        on_step=progress,
        on_measuring=progress.measuring,
    )


def _parts(run: _Run, *, load_teacher: LoadTeacher) -> tuple[CrossEntropy, dict[str, Measure]]:
    """What is minimised, and what is looked at: the divergence too, with a teacher at hand."""
    config, device, recovery = run.config, run.group.device, run.recovery
    lay_out = lay_out_of_rows(config, run.rows.lengths)
    measures = build_measures(
        run.request,
        run.prepared,
        device=device,
        lay_out_of=partial(lay_out_of_rows, config),
    )
    plain = CrossEntropy(
        run.rows,
        device=device,
        lay_out=lay_out,
        regularization=config.training.regularization,
        is_compiled=config.training.compile,
    )
    if not recovery.has_teacher:
        return plain, measures
    teacher = as_frozen(load_teacher(), config=config, device=device)
    knowledge: Knowledge
    if recovery.logits == "full":
        knowledge = TeacherLogits(
            teacher, objective=recovery.objective, temperature=recovery.temperature
        )
        compared = sample_of(run.prepared.validation, num_targets=_MEASURED_TARGETS)
        measures[KL] = TeacherDivergence(
            compared,
            knowledge=TeacherLogits(teacher),
            device=device,
            lay_out=lay_out_of_rows(config, compared.lengths),
        )
    else:
        knowledge = _cached(run, teacher, logits=recovery.logits)
    distillation = Distillation(
        run.rows,
        knowledge=knowledge,
        cross_entropy_weight=recovery.cross_entropy_weight,
        device=device,
        lay_out=lay_out,
        regularization=config.training.regularization,
    )
    return distillation, measures


def _cached(run: _Run, teacher: Any, *, logits: Literal["sampled", "topK"]) -> TeacherCache:
    """Of the rows that will be trained on; the teacher is let go of."""
    # A run of few steps over many rows never sees most of them.
    drawn = {row for step in range(run.config.num_steps) for row in run.sampler.rows_of(step + 1)}
    cached = CachingPass(
        teacher=teacher,
        rows=CrossEntropy(run.rows, device=run.group.device),
        autocast=run.autocast,
        folder=run.output / _CACHE,
        logits=logits,
        samples=run.recovery.samples,
        temperature=run.recovery.temperature,
        seed=run.config.training.seed,
    ).run(
        sorted(drawn),
        on_file=lambda done, total: run.reporter.progress(
            "the teacher chooses tokens", step=done, total_steps=total
        ),
    )
    return TeacherCache(cached.of_row, temperature=run.recovery.temperature)


def remove_leftovers(output: Path) -> None:
    """Take away what only a resumed run would read; called when all is written."""
    for name in (_CACHE, CHECKPOINTS):
        shutil.rmtree(output / name, ignore_errors=True)


def whole_model(recovered: Recovered, *, pruned: Path) -> PreTrainedModel:
    """The recovered model in fp32, adapters merged into the pruned one."""
    if (recovered.folder / ADAPTER_SETTINGS).exists():
        return merged_model(pruned, adapter=recovered.folder).eval()
    return load_model(recovered.folder, dtype=torch.float32)
