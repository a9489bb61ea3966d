"""export: the tuned model in formats for devices, each held against it, run and measured.

Reads the weights of `train` as `compress` does, merged in fp32, and rows of `prepare`. Each format
is a folder of its own with an example that runs it; the engine that runs it on a device answers
held-out prompts here, in a process of its own.

Artifacts: a folder for each format, called `onnx-int4` for instance, and `exports`, the JSON that a
version keeps. Facts: `{"formats", "bf16Bytes"}`; each of `formats` is an `ExportedFormat`.
"""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.export import Export, ExportFormat
from tunesmith_api.finetunejob.serving import DEFAULT_MAX_MODEL_LENGTH
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult, ExportedFormat
from tunesmith_engine.sources.version_manifest import EXPORTS
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.compress.merge import copy_tokenizer
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import HELD_OUT, loss_results, mean_loss
from tunesmith_trainer.export.engines import LITERT_CHUNK
from tunesmith_trainer.export.formats import refuse_unwritable
from tunesmith_trainer.export.gate import larger_warning, refuse, require_finite
from tunesmith_trainer.export.measure import (
    losses_found,
    run_engine,
    run_example,
)
from tunesmith_trainer.export.processes import ProcessFailedError
from tunesmith_trainer.export.reference import (
    NUM_TOKENS,
    Reference,
    compare,
    reference_of,
    tokenizes_alike,
)
from tunesmith_trainer.export.worker import Found
from tunesmith_trainer.export.writers import (
    build_litert_folder,
    build_onnx_folder,
    write_beside,
    write_gguf_folder,
)
from tunesmith_trainer.models import load_tokenizer, load_tuned
from tunesmith_trainer.versions import library_versions

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "gguf",
    "onnxruntime",
    "onnxruntime-genai",
    "cyllama",
    "litert-torch",
    "ai-edge-litert",
    "litert-lm-api",
)
ENGINES = {"onnx": "onnxruntime-genai", "gguf": "cyllama", "litert": "ai-edge-litert"}
EXPORTS_FILE = "exports.json"


@dataclass(slots=True)
class ExportRun:
    """What the stage holds while it goes through its formats."""

    request: StageRequest
    reporter: Reporter
    settings: Export
    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    bf16_bytes: int = 0
    context_length: int = 0
    formats: list[ExportedFormat] = field(default_factory=list)
    results: list[EvaluationResult] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return Path(self.request.output)

    @property
    def source(self) -> Path:
        """The tuned model in fp32, which the builders of ONNX and LiteRT read."""
        return self.output / ".model"

    def folder(self, wanted: ExportFormat) -> Path:
        return self.output / wanted.name

    def say(self, message: str) -> None:
        self.reporter.progress(
            message, step=len(self.formats), total_steps=len(self.settings.formats)
        )

    def outcome(self) -> StageOutcome:
        """What was found so far."""
        told: list[JsonValue] = [
            each.model_dump(mode="json", by_alias=True) for each in self.formats
        ]
        folders = {each.name: self.output / each.name for each in self.formats}
        return StageOutcome(
            message="; ".join(_told(each) for each in self.formats),
            artifacts=[
                artifact_of(name, path)
                for name, path in {"exports": self.output / EXPORTS_FILE, **folders}.items()
            ],
            evaluation=list(self.results),
            facts={"formats": told, "bf16Bytes": self.bf16_bytes},
            versions=library_versions(*LIBRARIES),
            warnings=[*filter(None, map(larger_warning, self.formats))],
        )


def export(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Leave a folder for each format that `spec.export` asks for.

    Raises:
        BadInputError: a format cannot hold this model.
        VerdictError: a format lost too much, or is larger or needs more memory than is allowed.
        OSError: the disk is full.
    """
    settings = request.spec.export
    assert settings is not None  # noqa: S101 - the catalogue's row says when the stage applies
    prepared = load_rows_of_stage(request)
    run = ExportRun(request, reporter, settings, prepared, load_tokenizer(prepared.model))
    try:
        reference = write_from_tuned(run)
        for wanted in settings.formats:
            found = prove(run, wanted, reference)
            run.formats.append(found)
    finally:
        shutil.rmtree(run.source, ignore_errors=True)
    write_exports(run)
    refuse(run.formats, settings, findings=run.outcome)
    return run.outcome()


def write_from_tuned(run: ExportRun) -> Reference:
    """Write what is written of the model in memory, and let it answer."""
    run.say("merging")
    model = load_tuned(run.request, dtype=torch.float32)
    refuse_unwritable(
        run.settings,
        run.prepared.model,
        config=model.config,
        num_parameters=model.num_parameters(),
    )
    run.bf16_bytes = 2 * model.num_parameters()
    run.context_length = model.config.max_position_embeddings
    run.say("what the tuned model says")
    reference = reference_of(
        model,
        run.tokenizer,
        run.prepared,
        settings=run.settings,
        seed=run.request.spec.dataset.seed,
    )
    write_all_gguf(run, model)
    if any(wanted.format != "gguf" for wanted in run.settings.formats):
        shutil.rmtree(run.source, ignore_errors=True)
        model.save_pretrained(run.source)
        copy_tokenizer(run.prepared.model, run.source)
    return reference


def write_all_gguf(run: ExportRun, model: PreTrainedModel) -> None:
    """Write the GGUF files, for which the model is in memory anyhow."""
    for wanted in run.settings.formats:
        if wanted.format == "gguf":
            run.say(f"writing {wanted.name}")
            write_gguf_folder(
                model,
                run.folder(wanted),
                wanted=wanted,
                tokenizer=run.tokenizer,
                name=run.request.spec.output.model,
            )


def prove(run: ExportRun, wanted: ExportFormat, reference: Reference) -> ExportedFormat:
    """Build the format if it is not there yet, run it, and hold it against the tuned model."""
    folder = run.folder(wanted)
    if wanted.format != "gguf":
        run.say(f"building {wanted.name}")
    if wanted.format == "onnx":
        build_onnx_folder(run.source, folder, wanted=wanted)
    if wanted.format == "litert":
        build_litert_folder(run.source, folder, wanted=wanted, room=room_of(run, reference))
    write_beside(folder, wanted, model=run.request.spec.output.model)
    run.say(f"running {wanted.name}")
    found = run_as_on_device(folder, wanted, reference)
    require_finite(wanted.name, found.sums)
    losses = losses_found(found, reference)
    run.results += results_of(run, wanted, losses, reference=reference)
    artifact, agreement = artifact_of(wanted.name, folder), compare(reference, found.answers)
    engine = ENGINES[wanted.format]
    return ExportedFormat(
        name=wanted.name,
        format=wanted.format,
        precision=wanted.precision,
        path=f"{EXPORTS}/{wanted.name}",
        digest=artifact.digest,
        bytes=artifact.bytes,
        bf16_bytes=run.bf16_bytes,
        engine=f"{engine} {library_versions(engine)[engine]}",
        rows=len(reference.rows),
        loss=mean_loss(losses),
        tuned_loss=mean_loss(reference.losses),
        max_loss_rise=run.settings.gate.bound_of(wanted.precision),
        agreed_tokens=agreement.agreed,
        compared_tokens=agreement.compared,
        differs=agreement.differs,
        tokenizes_alike=tokenizes_alike(reference, found.tokenized),
        tokens_per_second=found.tokens_per_second,
        prompt_tokens_per_second=found.prompt_tokens_per_second,
        peak_memory_bytes=found.peak_memory_bytes,
        load_seconds=found.load_seconds,
        threads=found.threads,
    )


def room_of(run: ExportRun, reference: Reference) -> int:
    """Tokens of a conversation, in whole chunks: as is asked for, and enough for what is proven."""
    known = min(DEFAULT_MAX_MODEL_LENGTH, run.context_length)
    asked = run.settings.context_length or known
    prompts = [len(answer.prompt) + NUM_TOKENS for answer in reference.answers]
    rows = [len(reference.rows.row(row)[0]) for row in range(len(reference.rows))]
    return LITERT_CHUNK * math.ceil(max(asked, *prompts, *rows) / LITERT_CHUNK)


def run_as_on_device(folder: Path, wanted: ExportFormat, reference: Reference) -> Found:
    """Let the engine answer and score, and the example answer.

    Raises:
        VerdictError: what was written cannot be run.
    """
    try:
        found = run_engine(folder, format_name=wanted.format, reference=reference)
        run_example(folder)
    except ProcessFailedError as error:
        if error.was_killed:
            raise
        message = f"{wanted.name}: what was written cannot be run: {error}"
        raise VerdictError(Reason.EXPORT_PARITY_FAILED, message) from error
    return found


def results_of(
    run: ExportRun, wanted: ExportFormat, losses: RowLosses, *, reference: Reference
) -> Sequence[EvaluationResult]:
    """The loss of the format beside the tuned model's of the same rows."""
    results = loss_results(
        HELD_OUT,
        losses,
        base=reference.losses,
        split=wanted.name,
        settings=run.request.spec.evaluation.bootstrap,
    )
    return [result for result in results if result.metric == "loss"]


def write_exports(run: ExportRun) -> None:
    """Write what a version keeps: all that another run finds as well."""
    told = [
        each.without_timing().model_dump(mode="json", by_alias=True, exclude_none=True)
        for each in run.formats
    ]
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    write_atomically(run.output / EXPORTS_FILE, text)


def _told(each: ExportedFormat) -> str:
    return f"{each.name}: {each.bytes / (1 << 20):,.0f} MiB, loss {each.loss_rise:+.4f}"
