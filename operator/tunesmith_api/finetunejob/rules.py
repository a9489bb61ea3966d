"""The rules across fields, written once: for the models in Python, for the API server in CEL.

`FineTuneJob` checks them after every field is sound, `crds.py` writes them into the CRD, and a
property test holds both to the same verdict. Rules about one field alone stand in `job.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from tunesmith_api.finetunejob.compression import Quantize
from tunesmith_api.finetunejob.dataset import Dataset, DataSource
from tunesmith_api.finetunejob.evaluation import Evaluation, Gate
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.output import Output
from tunesmith_api.finetunejob.resources import Toleration, Workspace
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Batch, Training

LOSS_METRICS = ("loss", "perplexity")

# What may change while a job runs; all else in `spec` is an input, fixed once it has started.
MUTABLE_FIELDS = (
    "suspend",
    "backoffLimit",
    "activeDeadlineSeconds",
    "preRunningDeadlineSeconds",
    "ttlSecondsAfterFinished",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule across the fields of one object.

    `scopes` are the places of that object below `spec`, `*` standing for every item of a list.
    `holds` sees the object, `cel` sees it as `self`. `field` is what the error points at.
    """

    name: str
    scopes: tuple[str, ...]
    field: str
    holds: Callable[[Any], bool]
    cel: str
    message: str


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that an object breaks, and the path of the field to mend, below `spec`."""

    rule: Rule
    path: tuple[str | int, ...]


def _epochs_or_steps(training: Training) -> bool:
    return training.epochs is None or training.max_steps is None


def _validation_once(dataset: Dataset) -> bool:
    return dataset.validation is None or dataset.validation_fraction is None


def _one_bound(gate: Gate) -> bool:
    return (
        sum(each is not None for each in (gate.min, gate.max, gate.min_delta, gate.max_delta)) == 1
    )


def _general_has_loss_only(gate: Gate) -> bool:
    return gate.suite != "general" or gate.metric in LOSS_METRICS


def _micro_batch_fits(batch: Batch) -> bool:
    return batch.micro_batch_size <= batch.size


def _batch_divides(spec: FineTuneJobSpec) -> bool:
    return spec.training.batch.size % spec.resources.workers == 0


def _revision_of_hub(model: ModelSource) -> bool:
    return model.revision is None or model.uri.startswith("hf://")


def _source_needs_secret(source: ModelSource | DataSource) -> bool:
    return source.secret_ref is None or not source.uri.startswith(("file://", "python://"))


def _target_needs_secret(output: Output) -> bool:
    is_remote = output.uri is not None and not output.uri.startswith("file://")
    return output.secret_ref is None or is_remote


def _group_of_four_bit(quantize: Quantize) -> bool:
    return quantize.group_size is None or quantize.scheme == "W4A16"


def _exists_has_no_value(toleration: Toleration) -> bool:
    return toleration.operator == "Equal" or toleration.value is None


def _every_key_exists(toleration: Toleration) -> bool:
    return toleration.key is not None or toleration.operator == "Exists"


def _only_eviction_waits(toleration: Toleration) -> bool:
    return toleration.toleration_seconds is None or toleration.effect == "NoExecute"


def _given_or_made(workspace: Workspace) -> bool:
    made = (workspace.size, workspace.storage_class_name, workspace.access_mode)
    return workspace.claim_name is None or all(each is None for each in made)


def _stored_or_mounted(workspace: Workspace) -> bool:
    mounted = (workspace.claim_name, workspace.storage_class_name, workspace.access_mode)
    return workspace.uri is None or all(each is None for each in mounted)


def _store_needs_secret(workspace: Workspace) -> bool:
    return workspace.secret_ref is None or workspace.uri is not None


def _model_outlives_pods(spec: FineTuneJobSpec) -> bool:
    output = spec.output.uri
    is_remote = output is not None and not output.startswith("file://")
    return spec.workspace.uri is None or is_remote


def _gates_are_measured(evaluation: Evaluation) -> bool:
    measured = evaluation.generation.metric
    return measured == "auto" or all(
        gate.metric in {*LOSS_METRICS, measured} for gate in evaluation.gates
    )


RULES: tuple[Rule, ...] = (
    Rule(
        name="epochs-or-max-steps",
        scopes=("training",),
        field="maxSteps",
        holds=_epochs_or_steps,
        cel="!has(self.epochs) || !has(self.maxSteps)",
        message="epochs and maxSteps both say when training ends; give one of them",
    ),
    Rule(
        name="validation-or-fraction",
        scopes=("dataset",),
        field="validationFraction",
        holds=_validation_once,
        cel="!has(self.validation) || !has(self.validationFraction)",
        message="validation and validationFraction both say what is held out; give one of them",
    ),
    Rule(
        name="one-bound-per-gate",
        scopes=("evaluation.gates.*",),
        field="",
        holds=_one_bound,
        cel="[has(self.min), has(self.max), has(self.minDelta), has(self.maxDelta)]"
        ".filter(given, given).size() == 1",
        message="a gate has exactly one bound; give one of min, max, minDelta, maxDelta",
    ),
    Rule(
        name="general-suite-has-loss",
        scopes=("evaluation.gates.*",),
        field="metric",
        holds=_general_has_loss_only,
        cel="self.suite != 'general' || self.metric in ['loss', 'perplexity']",
        message="the general suite measures loss and perplexity only; choose one, or suite heldOut",
    ),
    Rule(
        name="gate-metric-is-measured",
        scopes=("evaluation",),
        field="gates",
        holds=_gates_are_measured,
        cel="self.generation.metric == 'auto' || self.gates.all(gate, "
        "gate.metric in ['loss', 'perplexity'] || gate.metric == self.generation.metric)",
        message="a gate asks for a metric that is not measured; name it in generation.metric",
    ),
    Rule(
        name="micro-batch-within-batch",
        scopes=("training.batch",),
        field="microBatchSize",
        holds=_micro_batch_fits,
        cel="self.microBatchSize <= self.size",
        message="microBatchSize (default 4) is at most batch.size; lower it or raise size",
    ),
    Rule(
        name="batch-divides-by-workers",
        scopes=("",),
        field="training.batch.size",
        holds=_batch_divides,
        cel="self.training.batch.size % self.resources.workers == 0",
        message="batch.size must divide by resources.workers, so that all workers get alike",
    ),
    Rule(
        name="revision-of-the-hub",
        scopes=("model",),
        field="revision",
        holds=_revision_of_hub,
        cel="!has(self.revision) || self.uri.startsWith('hf://')",
        message="only hf:// models have a revision; leave it out, or put it into the uri's path",
    ),
    Rule(
        name="secret-for-remote-sources",
        scopes=("model", "dataset.train", "dataset.validation", "evaluation.generalText"),
        field="secretRef",
        holds=_source_needs_secret,
        cel="!has(self.secretRef) || "
        "!(self.uri.startsWith('file://') || self.uri.startsWith('python://'))",
        message="file:// and python:// sources are read without credentials; leave secretRef out",
    ),
    Rule(
        name="secret-for-remote-outputs",
        scopes=("output",),
        field="secretRef",
        holds=_target_needs_secret,
        cel="!has(self.secretRef) || (has(self.uri) && !self.uri.startsWith('file://'))",
        message="local outputs are written without credentials; leave secretRef out",
    ),
    Rule(
        name="group-size-of-four-bit",
        scopes=("compression.quantize",),
        field="groupSize",
        holds=_group_of_four_bit,
        cel="!has(self.groupSize) || self.scheme == 'W4A16'",
        message="only W4A16 has groups; leave groupSize out, or set scheme: W4A16",
    ),
    Rule(
        name="toleration-of-any-value",
        scopes=("resources.tolerations.*",),
        field="value",
        holds=_exists_has_no_value,
        cel="self.operator == 'Equal' || !has(self.value)",
        message="operator Exists tolerates every value; leave value out, or set operator: Equal",
    ),
    Rule(
        name="toleration-of-any-key",
        scopes=("resources.tolerations.*",),
        field="operator",
        holds=_every_key_exists,
        cel="has(self.key) || self.operator == 'Exists'",
        message="without a key every taint is tolerated; name the key, or set operator: Exists",
    ),
    Rule(
        name="toleration-for-a-time",
        scopes=("resources.tolerations.*",),
        field="tolerationSeconds",
        holds=_only_eviction_waits,
        cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        message="only NoExecute evicts after a time; leave tolerationSeconds out, or set effect",
    ),
    Rule(
        name="workspace-given-or-made",
        scopes=("workspace",),
        field="claimName",
        holds=_given_or_made,
        cel="!has(self.claimName) || "
        "!(has(self.size) || has(self.storageClassName) || has(self.accessMode))",
        message="claimName gives a volume, the other fields describe one to make; give either",
    ),
    Rule(
        name="workspace-stored-or-mounted",
        scopes=("workspace",),
        field="uri",
        holds=_stored_or_mounted,
        cel="!has(self.uri) || "
        "!(has(self.claimName) || has(self.storageClassName) || has(self.accessMode))",
        message="uri keeps artifacts in an object store; claimName, storageClassName and "
        "accessMode are of a volume; give either",
    ),
    Rule(
        name="secret-for-remote-workspaces",
        scopes=("workspace",),
        field="secretRef",
        holds=_store_needs_secret,
        cel="!has(self.secretRef) || has(self.uri)",
        message="a volume is used without credentials; leave secretRef out, or give uri",
    ),
    Rule(
        name="output-beside-remote-workspace",
        scopes=("",),
        field="output.uri",
        holds=_model_outlives_pods,
        cel="!has(self.workspace.uri) || "
        "(has(self.output.uri) && !self.output.uri.startsWith('file://'))",
        message="with workspace.uri no volume keeps the model; give output.uri in an object store",
    ),
)


def broken_rules(spec: FineTuneJobSpec) -> list[BrokenRule]:
    """Every rule that `spec` breaks, in the order of the table."""
    return [
        BrokenRule(rule=rule, path=(*path, *_parts(rule.field)))
        for rule in RULES
        for scope in rule.scopes
        for path, found in _objects(spec, _parts(scope))
        if not rule.holds(found)
    ]


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(dotted.split(".")) if dotted else ()


def _objects(
    found: object, scope: tuple[str, ...], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if not scope:
        yield path, found
        return
    first, rest = scope[0], scope[1:]
    if first == "*" and isinstance(found, list):
        for index, item in enumerate(found):
            yield from _objects(item, rest, (*path, index))
    elif isinstance(found, BaseModel):
        child = getattr(found, to_snake(first))
        if child is not None:
            yield from _objects(child, rest, (*path, first))
