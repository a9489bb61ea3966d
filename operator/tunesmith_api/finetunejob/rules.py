"""All rules of a FineTuneJob: of the parts of its spec, across them, and of what may change.

The rules of one part stand in the part's module; those that join parts stand here. `job.py` checks
them off-line, `kinds.py` hands them to the CRD.
"""

from collections.abc import Iterator
from typing import Any, Final

from tunesmith_api.field_paths import record_paths
from tunesmith_api.finetunejob import (
    adversarial,
    augmentation,
    balance,
    cleaning,
    compression,
    dataset,
    distillation,
    evaluation,
    explanation_objective,
    export,
    fairness_remedy,
    forgetting,
    model,
    output,
    preference,
    prune,
    replay,
    resources,
    search,
    serving,
    split,
    synthesis,
    tracking,
    training,
)
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.rules import Rule, TransitionRule

# What may change while a job runs; all else in `spec` is an input, fixed once it has started.
MUTABLE_FIELDS: Final = (
    "suspend",
    "backoffLimit",
    "activeDeadlineSeconds",
    "preRunningDeadlineSeconds",
    "ttlSecondsAfterFinished",
)

_BATCH_AND_WORKERS: Final[tuple[Rule[FineTuneJobSpec], ...]] = (
    Rule(
        name="batch-divides-by-workers",
        scopes=("",),
        field="training.batch.size",
        holds=lambda spec: spec.training.batch.size % spec.resources.workers == 0,
        cel="self.training.batch.size % self.resources.workers == 0",
        message="batch.size must divide by resources.workers, so that all workers get alike",
    ),
    Rule(
        name="batch-divides-by-min-workers",
        scopes=("",),
        field="training.batch.size",
        holds=lambda spec: (
            spec.resources.min_workers is None
            or spec.training.batch.size % spec.resources.min_workers == 0
        ),
        cel="!has(self.resources.minWorkers) || "
        "self.training.batch.size % self.resources.minWorkers == 0",
        message="batch.size must divide by resources.minWorkers, so that all workers get alike",
    ),
    Rule(
        name="min-workers-within-workers",
        scopes=("",),
        field="resources.minWorkers",
        holds=lambda spec: (
            spec.resources.min_workers is None
            or spec.resources.min_workers <= spec.resources.workers
        ),
        cel="!has(self.resources.minWorkers) || "
        "self.resources.minWorkers <= self.resources.workers",
        message="minWorkers is above workers; lower it, or raise workers",
    ),
    Rule(
        name="shards-keep-their-workers",
        scopes=("",),
        field="resources.minWorkers",
        holds=lambda spec: (
            spec.resources.min_workers is None or spec.training.parallelism != "fsdp"
        ),
        cel="!has(self.resources.minWorkers) || self.training.parallelism != 'fsdp'",
        message="with parallelism: fsdp a model lies in as many parts as there are workers, and "
        "fewer may not have the memory; leave minWorkers out, or choose ddp",
    ),
)

_SOURCES: Final[tuple[Rule[ModelSource | DataSource | Suite], ...]] = (
    Rule(
        name="secret-for-remote-sources",
        scopes=tuple(record_paths(FineTuneJobSpec, ModelSource, DataSource, Suite)),
        field="secretRef",
        holds=lambda source: (
            source.secret_ref is None or not source.uri.startswith(("file://", "python://"))
        ),
        cel="!has(self.secretRef) || "
        "!(self.uri.startsWith('file://') || self.uri.startsWith('python://'))",
        message="file:// and python:// sources are read without credentials; leave secretRef out",
    ),
)

_TAKEN_WEIGHTS: Final[tuple[Rule[FineTuneJobSpec], ...]] = (
    Rule(
        name="weights-are-of-one-worker",
        scopes=("",),
        field="search.refit",
        holds=lambda spec: (
            spec.search is None
            or spec.search.refit
            or (spec.resources.workers == 1 and spec.resources.min_workers is None)
        ),
        cel="!has(self.search) || self.search.refit || "
        "(self.resources.workers == 1 && !has(self.resources.minWorkers))",
        message="trials have one worker each, and more would train other weights; set refit: true, "
        "or resources.workers: 1 without minWorkers",
    ),
    Rule(
        name="weights-have-no-control",
        scopes=("",),
        field="search.refit",
        holds=lambda spec: (
            spec.search is None or spec.search.refit or spec.training.control is None
        ),
        cel="!has(self.search) || self.search.refit || !has(self.training.control)",
        message="trials have no control run beside them; set refit: true, or leave "
        "training.control out",
    ),
    Rule(
        name="weights-are-refit-once",
        scopes=("",),
        field="search.refit",
        holds=lambda spec: (
            spec.search is None
            or spec.search.refit
            or spec.cross_validation is None
            or not spec.cross_validation.refit
        ),
        cel="!has(self.search) || self.search.refit || !has(self.crossValidation) || "
        "!self.crossValidation.refit",
        message="folds say how long to train anew; set crossValidation.refit: false, or "
        "search.refit: true",
    ),
)

_SYNTHESIS: Final[tuple[Rule[FineTuneJobSpec], ...]] = (
    Rule(
        name="synthesis-writes-answers",
        scopes=("",),
        field="dataset.synthesis",
        holds=lambda spec: spec.dataset.synthesis is None or spec.training.objective != "dpo",
        cel="!has(self.dataset.synthesis) || self.training.objective != 'dpo'",
        message="synthesis writes one answer to a question, and dpo learns from two; leave "
        "synthesis out, or choose another objective",
    ),
)

_OUTPUT_AND_WORKSPACE: Final[tuple[Rule[FineTuneJobSpec], ...]] = (
    Rule(
        name="output-beside-remote-workspace",
        scopes=("",),
        field="output.uri",
        holds=lambda spec: spec.workspace.uri is None or spec.output.is_remote,
        cel="!has(self.workspace.uri) || "
        "(has(self.output.uri) && !self.output.uri.startsWith('file://'))",
        message="with workspace.uri no volume keeps the model; give output.uri in an object store",
    ),
)

_ARTIFACT: Final[tuple[Rule[FineTuneJobSpec], ...]] = (
    Rule(
        name="adapters-are-trained",
        scopes=("",),
        field="output.artifact",
        holds=lambda spec: not spec.output.has_adapter or spec.training.method == "lora",
        cel="self.output.artifact == 'merged' || self.training.method == 'lora'",
        message="only training.method: lora makes an adapter; choose it, or publish merged",
    ),
    Rule(
        name="dora-is-published-merged",
        scopes=("",),
        field="output.artifact",
        holds=lambda spec: not (spec.output.has_adapter and spec.training.lora.use_dora),
        cel="self.output.artifact == 'merged' || !self.training.lora.useDora",
        message="vLLM loads no DoRA adapter; publish merged, or leave training.lora.useDora out",
    ),
    Rule(
        name="adapters-alone-are-not-compressed",
        scopes=("",),
        field="compression.quantize.scheme",
        holds=lambda spec: (
            spec.output.artifact != "adapter" or spec.compression.quantize.scheme == "none"
        ),
        cel="self.output.artifact != 'adapter' || self.compression.quantize.scheme == 'none'",
        message="an adapter alone runs on its base as it is; set scheme: none, or publish both",
    ),
    Rule(
        name="adapters-alone-have-no-ladder",
        scopes=("",),
        field="compression.ladder",
        holds=lambda spec: spec.output.artifact != "adapter" or spec.compression.ladder is None,
        cel="self.output.artifact != 'adapter' || !has(self.compression.ladder)",
        message="an adapter alone runs on its base as it is; leave ladder out, or publish both",
    ),
    Rule(
        name="guesses-of-whole-models",
        scopes=("",),
        field="serving.speculative",
        holds=lambda spec: spec.serving.speculative is None or not spec.output.has_adapter,
        cel="!has(self.serving.speculative) || self.output.artifact == 'merged'",
        message="speculative decoding was not seen to work with adapters; set output.artifact: "
        "merged, or leave speculative out",
    ),
    Rule(
        name="exports-are-whole-models",
        scopes=("",),
        field="export",
        holds=lambda spec: spec.export is None or spec.output.artifact != "adapter",
        cel="!has(self.export) || self.output.artifact != 'adapter'",
        message="formats for devices hold the whole model, and output.artifact: adapter publishes "
        "none; set artifact: both or merged, or leave export out",
    ),
    Rule(
        name="pruned-models-are-whole",
        scopes=("",),
        field="compression.prune",
        holds=lambda spec: spec.compression.prune is None or not spec.output.has_adapter,
        cel="!has(self.compression.prune) || self.output.artifact == 'merged'",
        message="an adapter fits its base, and no pruned model; set output.artifact: merged, or "
        "leave prune out",
    ),
)

# The order is that in which errors are told: it is part of what people and tests see.
RULES: Final[tuple[Rule[Any], ...]] = (
    *training.RULES,
    *dataset.RULES,
    *cleaning.RULES,
    *split.RULES,
    *augmentation.RULES,
    *balance.RULES,
    *synthesis.RULES,
    *_SYNTHESIS,
    *replay.RULES,
    *adversarial.RULES,
    *fairness_remedy.RULES,
    *explanation_objective.RULES,
    *distillation.RULES,
    *forgetting.RULES,
    *evaluation.RULES,
    *training.BATCH_RULES,
    *training.SCHEDULE_RULES,
    *_BATCH_AND_WORKERS,
    *preference.RULES,
    *model.RULES,
    *_SOURCES,
    *output.RULES,
    *compression.RULES,
    *compression.LADDER_RULES,
    *export.FORMAT_RULES,
    *export.RULES,
    *prune.RULES,
    *prune.RECOVERY_RULES,
    *serving.RULES,
    *serving.DRAFT_RULES,
    *resources.RULES,
    *_OUTPUT_AND_WORKSPACE,
    *_ARTIFACT,
    *tracking.RULES,
    *search.PARAMETER_RULES,
    *search.PRUNER_RULES,
    *search.RULES,
    *_TAKEN_WEIGHTS,
)


# A volume, once it is made or filled, is the job's; another one has nothing of what is done.
_FIXED_FOR_EVER: Final = ("workspace",)


def _fixed_after_start() -> Iterator[TransitionRule]:
    """One rule for each input, so that the server names the field that was changed.

    They stand at the whole object: from within `spec` a rule cannot see the status. Of a job that
    has failed the chart's policy lets be corrected what no finished stage has read
    (`tunesmith_engine/stages/correction_policy.py`): these rules see no stages' rows.
    """
    for field in FineTuneJobSpec.model_fields.values():
        name = str(field.alias)
        if name in MUTABLE_FIELDS:
            continue
        is_same = f"self.spec.{name} == oldSelf.spec.{name}"
        if field.get_default(call_default_factory=True, validated_data={}) is None:
            # A stored job may lack it: the server fills in no null. To read a field that is not
            # there is an error in CEL, and an error refuses the update.
            has_now, had = f"has(self.spec.{name})", f"has(oldSelf.spec.{name})"
            is_same = f"{has_now} == {had} && (!{has_now} || {is_same})"
        free = "!has(oldSelf.status) || !has(oldSelf.status.startTime)"
        message = f"{name} is fixed once the job has started; make a new job"
        if name not in _FIXED_FOR_EVER:
            free += " || (has(oldSelf.status.phase) && oldSelf.status.phase == 'Failed')"
            message = f"{name} is fixed from the start on, unless the job fails; make a new job"
        yield TransitionRule(
            scope="", field=f"spec.{name}", cel=f"{free} || ({is_same})", message=message
        )


TRANSITION_RULES: Final = tuple(_fixed_after_start())
