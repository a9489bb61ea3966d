"""Whether the job can be done where it runs: asked by prepare, before anything is paid for.

Questions that would otherwise be answered after hours: are the secrets, keys and packages there
that only later stages need, can the output be written, is there a GPU for the scheme, do memory and
disk suffice by the engine's estimate, and do the model's layers take the adapters and the scheme
that the spec names. The rules are those of the later stages, which ask them again. Keys of
prepare do not tell of most of what is judged here: where an earlier run has prepared the same data,
the next stage asks in its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith_api.endpoint import Endpoint
from tunesmith_api.field_paths import dotted, records_of
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.finetunejob.tracking import Tracking
from tunesmith_api.reasons import Reason
from tunesmith_engine.capacity import (
    Accelerators,
    Shortage,
    accelerators_here,
    room_for_training,
    shortage_of_accelerators,
    shortage_of_given,
    shortage_of_memory,
    shortage_of_room,
    unjudged_memory,
)
from tunesmith_engine.estimates import SHORTEST_ROW, Estimate, estimate
from tunesmith_engine.sources.credentials import API_KEY, read_secret
from tunesmith_engine.sources.errors import DATA, SourceError, as_stage_error
from tunesmith_engine.sources.local_paths import is_local
from tunesmith_engine.sources.model_facts import ModelFacts, read_model_facts
from tunesmith_engine.sources.remote_store import open_store
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.version_signature import read_signer
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.errors import BadInputError, StageError
from tunesmith_engine.stages.recovery_spec import DRAFT_FIELD, drafted
from tunesmith_trainer.compress.schemes import (
    SCHEMES,
    group_size_for,
    quantized_widths,
    refuse_unrunnable,
    refuse_unscalable,
)
from tunesmith_trainer.data.cleaning.presidio import require_presidio

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def refuse_undoable(request: StageRequest, *, model: Path) -> None:
    """Return if later stages can do what the job asks to the prepared `model`, in this place.

    What `prepare` asked before it left that model, but of the spec as it is now: a run up to
    `prepare` may have had another scheme, other adapters, other secrets.

    Raises:
        StageError: a secret, a package or a GPU is missing, or the model does not fit the spec.
    """
    refuse_missing(request)
    refuse_without_gpu(request.spec)
    refuse_unfit_model(request.spec, model)


def refuse_missing(request: StageRequest) -> None:
    """Return if what only later stages need is here: secrets with their keys, packages, the output.

    Raises:
        StageError: something is missing, or the output cannot be written.
    """
    spec, secrets = request.spec, Path(request.secrets)
    _require_tools(request)
    for path, endpoint in records_of(spec.evaluation, Endpoint):
        with _told_of(f"evaluation.{dotted(path)}.secretRef"):
            secret = read_secret(endpoint.secret_ref, secrets=secrets)
            if endpoint.secret_ref is not None:
                secret.require(API_KEY)
    kinds: tuple[type[DataSource | Suite], ...] = (DataSource, Suite)
    for path, source in records_of(spec.evaluation, *kinds):
        with _told_of(f"evaluation.{dotted(path)}.secretRef"):
            secret = read_secret(source.secret_ref, secrets=secrets)
            if not is_local(source.uri):
                open_store(source.uri, secret=secret, role=DATA)
    for path, model in records_of(spec.training, ModelSource):
        with _told_of(f"training.{dotted(path)}.secretRef"):
            read_secret(model.secret_ref, secrets=secrets)
    _refuse_unwritable(request)


def _refuse_unwritable(request: StageRequest) -> None:
    """Return if the output can be written and, where that is asked for, signed."""
    spec, secrets = request.spec, Path(request.secrets)
    with _told_of("output.secretRef"):
        secret = read_secret(spec.output.secret_ref, secrets=secrets)
        if spec.output.uri is not None:
            target = open_target(
                spec.output.uri,
                base=Path(request.base),
                secret=secret,
                private=spec.output.private,
            )
            target.require_writable()
    if spec.output.signing is not None:
        with _told_of("output.signing.secretRef"):
            read_signer(read_secret(spec.output.signing.secret_ref, secrets=secrets))


def _require_tools(request: StageRequest) -> None:
    spec = request.spec
    require_presidio(spec.dataset.cleaning.personal_data)
    if spec.evaluation.suites:
        from tunesmith_trainer.evaluate.harness import require_harness

        require_harness(spec)
    if spec.evaluation.robustness is not None:
        from tunesmith_trainer.robustness.attacked_rows import row_attacks

        # For WordNet, where synonyms are asked for.
        row_attacks(spec.evaluation.robustness)
    if spec.tracking != Tracking():
        from tunesmith_trainer.train.trackers.required import require_trackers

        require_trackers(spec.tracking, secrets=Path(request.secrets))
    if spec.evaluation.fairness is not None:
        from tunesmith_trainer.fairness.toxicity import require_classifiers

        require_classifiers(request)


@contextmanager
def _told_of(field: str) -> Iterator[None]:
    """What a source refuses, in the words of a stage and, for a secret, with the field to mend."""
    try:
        yield
    except SourceError as error:
        if error.reason is Reason.SECRET_NOT_FOUND:
            message = f"{field}: {error.message}"
            raise BadInputError(error.reason, message) from error
        raise as_stage_error(error) from error


@contextmanager
def told_of_draft() -> Iterator[None]:
    """What pruning refuses, with the field of the draft that is made by it."""
    try:
        yield
    except StageError as error:
        message = error.message.replace("compression.prune", DRAFT_FIELD)
        raise type(error)(error.reason, message, findings=error.findings) from error


def refuse_without_gpu(spec: FineTuneJobSpec) -> None:
    """Return if a GPU is here, or is asked for, or the scheme needs none.

    Raises:
        BadInputError: compress would have none to try the model on.
    """
    if not any(SCHEMES[scheme].needs_gpu for scheme in spec.compression.schemes):
        return
    from tunesmith_trainer.devices import has_accelerator

    # In a cluster prepare has none; a job that asks for some gets one for compress.
    has_gpu = spec.resources.gpus_per_worker > 0 or has_accelerator()
    refuse_unrunnable(spec.compression, has_gpu=has_gpu)


def refuse_too_large(request: StageRequest, facts: ModelFacts) -> None:
    """Return if there is room for the job, should its rows be short.

    Asked before the model is converted, for what is too large however short the rows are.

    Raises:
        BadInputError: the estimate of a stage exceeds the memory, or that of all the free disk, or
            this machine has fewer accelerators than the job asks for.
    """
    needed, accelerators = _needed(request, facts, longest_row=SHORTEST_ROW), _accelerators(request)
    here, folder = _stages_here(request, needed), Path(request.output)
    _refuse(shortage_of_accelerators(request.spec.resources, accelerators))
    _refuse(
        shortage_of_room(needed, stages=here, folder=folder, has_bytes=0, accelerators=accelerators)
    )
    _refuse(shortage_of_given(needed, request.memory or {}))


def refuse_too_long(
    request: StageRequest, facts: ModelFacts, *, longest_row: int, teacher: int | None
) -> None:
    """Return if there is memory to train on a row of `longest_row` tokens.

    `teacher` is the number of its parameters, where the job has one.

    Raises:
        BadInputError: there is not.
    """
    needed = _needed(request, facts, longest_row=longest_row, teacher=teacher)
    here = _stages_here(request, needed)
    _refuse(shortage_of_memory(needed, stages=here, accelerators=_accelerators(request)))
    _refuse(shortage_of_given(needed, request.memory or {}))


def note_on_memory(
    request: StageRequest, facts: ModelFacts, *, longest_row: int, teacher: int | None
) -> str | None:
    """What training will take, where nobody could judge whether it gets that."""
    if request.memory is None:
        return None
    return unjudged_memory(
        _needed(request, facts, longest_row=longest_row, teacher=teacher),
        request.memory,
        on_accelerators=request.spec.resources.gpus_per_worker > 0,
    )


def refuse_unfit_model(spec: FineTuneJobSpec, folder: Path) -> None:
    """Return if the model in `folder` takes all that is done to it: adapters to formats.

    Raises:
        BadInputError: they do not; the message names the field and the layers.
    """
    from tunesmith_trainer.train.adapters import ALL_LINEAR, refuse_unfit
    from tunesmith_trainer.train.attention_dropout import refuse_without_attention_dropout

    training, quantize = spec.training, spec.compression.quantize
    names_targets = training.method == "lora" and training.lora.target_modules != [ALL_LINEAR]
    # The defaults fit every model: only what somebody named is worth building the layers for.
    if names_targets or training.freeze.is_asked_for:
        refuse_unfit(training, model=_model_without_weights(folder))
    if spec.training.regularization.attention_dropout:
        refuse_without_attention_dropout(_config_of(folder))
    if spec.compression.prune is not None:
        from tunesmith_trainer.distill.prunable import planned_shape

        planned_shape(spec.compression, _model_without_weights(folder))
        if "vocabulary" in spec.compression.prune.axes:
            from tunesmith_trainer.distill.vocabulary import refuse_untrimmable

            refuse_untrimmable(folder)
    draft = drafted(spec).compression
    if draft.prune is not None:
        from tunesmith_trainer.distill.prunable import planned_shape

        with told_of_draft():
            planned_shape(draft, _model_without_weights(folder))
    if "W4A16" in spec.compression.schemes:
        model = _model_without_weights(folder)
        group_size_for(quantize, in_features=quantized_widths(model))
        refuse_unscalable(quantize, architecture=type(model).__name__)
    if spec.export is not None:
        from tunesmith_trainer.export.formats import refuse_unwritable

        size = read_model_facts(folder).num_parameters
        refuse_unwritable(spec.export, folder, config=_config_of(folder), num_parameters=size)


def _model_without_weights(folder: Path) -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForCausalLM

    # On the device "meta" layers have shapes, and take no memory.
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(_config_of(folder), trust_remote_code=False)


def _config_of(folder: Path) -> "PretrainedConfig":
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _accelerators(request: StageRequest) -> Accelerators | None:
    return accelerators_here(request.spec.resources) if request.memory is None else None


def _needed(
    request: StageRequest, facts: ModelFacts, *, longest_row: int, teacher: int | None = None
) -> Estimate:
    room = room_for_training(request)
    return estimate(request.spec, facts, longest_row=longest_row, room=room, teacher=teacher)


def _stages_here(request: StageRequest, needed: Estimate) -> frozenset[StageName]:
    # On one machine every stage is judged by its memory. In a cluster none but this one runs in
    # this pod: the others are judged by what theirs are given, as far as the operator knows it.
    return frozenset(needed.memory_bytes if request.memory is None else [request.stage])


def _refuse(shortage: Shortage | None) -> None:
    if shortage is not None:
        raise BadInputError(shortage.reason, shortage.message)
