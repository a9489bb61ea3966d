"""The prepare stage: from the manifest's model and data to files that are proven fit to train on.

Leaves `model` (a folder of safetensors with tokenizer and chat template), `data` (both splits as
tokens and as records) and `card` (the data card). The log and `facts` show one row with the trained
part marked.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_api.results import Artifact
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import TARGET, SourceError, as_stage_error
from tunesmith_engine.sources.local_paths import is_local
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.sources.remote_store import require_driver
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.prepared import CARD, DATA, MODEL, SPLITS, Split
from tunesmith_trainer.data.records import write_records
from tunesmith_trainer.data.tokens import TokenRows
from tunesmith_trainer.prepare.base_model import BaseModel, prepare_base
from tunesmith_trainer.prepare.card import Removed, count_removed, data_card
from tunesmith_trainer.prepare.feasibility import refuse_unfit_model, refuse_without_gpu
from tunesmith_trainer.prepare.gathering import Gathered, gather_rows
from tunesmith_trainer.prepare.limits import note_on_memory, refuse_too_long
from tunesmith_trainer.prepare.sample import Sample, markers_in, sample_of
from tunesmith_trainer.prepare.sides import Sides, part_rows
from tunesmith_trainer.prepare.tokenizing import RowTokenizer, Tokenized
from tunesmith_trainer.versions import library_versions

_log = logging.getLogger(__name__)

_MANY_DUPLICATES: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Rows:
    """What became of the rows."""

    gathered: Gathered
    sides: Sides
    tokens: dict[Split, TokenRows]
    removed: Removed
    warnings: list[str]

    @property
    def longest(self) -> int:
        """Tokens of the longest row of either side."""
        return max(int(rows.lengths.max()) for rows in self.tokens.values())


def prepare(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Check and convert model and data.

    Raises:
        BadInputError: model or data break a rule, later stages cannot do to the model what the
            job asks, or there is too little memory or disk for the job.
        TransientError: a source cannot be reached now.
    """
    _check_secrets(request)
    _check_output(request)
    refuse_without_gpu(request.spec)
    reporter.progress("reading the data")
    gathered = gather_rows(request)
    reporter.progress("fetching the base model")
    base = prepare_base(request)
    refuse_unfit_model(request.spec, base.folder)
    rows = _make_rows(request, base, gathered, reporter)
    refuse_too_long(request, base.facts, longest_row=rows.longest)
    sample = sample_of(rows.sides.train[0].tokens, base.tokenizer)
    markers = markers_in(rows.tokens.values(), base.tokenizer)
    reporter.progress("writing the data")
    artifacts = _write(Path(request.output), base, request, rows, sample)
    _log.info("the first training row; what is trained stands in ⟦ ⟧:\n%s", sample.marked())
    said = _said(rows, note=note_on_memory(request, base.facts, longest_row=rows.longest))
    _log.info("%s", said)
    return StageOutcome(
        message=said,
        artifacts=artifacts,
        facts={**_facts(base.facts, rows, sample, artifacts), "markers": [*markers]},
        versions=library_versions("transformers", "tokenizers", "torch"),
        warnings=rows.warnings,
    )


def _check_secrets(request: StageRequest) -> None:
    """A secret that only later stages need is missed now, and not after hours of training."""
    spec = request.spec
    general = spec.evaluation.general_text
    for reference in (spec.output.secret_ref, general.secret_ref if general else None):
        try:
            read_secret(reference, secrets=Path(request.secrets))
        except SourceError as error:
            raise as_stage_error(error) from error


def _check_output(request: StageRequest) -> None:
    """So is the package that only publishing needs."""
    uri = request.spec.output.uri
    if uri is None or is_local(uri):
        return
    try:
        require_driver(uri, role=TARGET)
    except SourceError as error:
        raise as_stage_error(error) from error


def _make_rows(
    request: StageRequest, base: BaseModel, gathered: Gathered, reporter: Reporter
) -> _Rows:
    spec = request.spec
    longest = min(spec.training.sequence_length, base.facts.context_length)
    row_tokenizer = RowTokenizer(base.tokenizer, longest=longest, overlong=spec.dataset.overlong)
    found: dict[Split, list[Tokenized]] = {
        split: row_tokenizer.tokenize(side.rows, reporter=reporter)
        for split, side in gathered.sides.items()
    }
    overlong = sum(len(side.rows) - len(found[split]) for split, side in gathered.sides.items())
    sides = part_rows(found["train"], found.get("validation"), dataset=spec.dataset)
    removed = count_removed(gathered, sides, num_overlong=overlong)
    return _Rows(
        gathered=gathered,
        sides=sides,
        tokens={"train": _packed(sides.train), "validation": _packed(sides.validation)},
        removed=removed,
        warnings=[
            *_warnings(request, base, gathered, removed),
            *sides.warnings,
            *_endings(base, sides.train[0]),
        ],
    )


def _packed(rows: Sequence[Tokenized]) -> TokenRows:
    return TokenRows.of((each.tokens.ids, each.tokens.trained) for each in rows)


def _warnings(
    request: StageRequest, base: BaseModel, gathered: Gathered, removed: Removed
) -> list[str]:
    warnings = []
    asked, context = request.spec.training.sequence_length, base.facts.context_length
    if asked > context:
        warnings.append(
            f"training.sequenceLength is {asked}; rows end at the model's context of {context}"
        )
    read = sum(side.num_read for side in gathered.sides.values())
    if removed.duplicates > _MANY_DUPLICATES * read:
        warnings.append(f"{removed.duplicates} of {read} rows are exact duplicates of others")
    if removed.overlong:
        warnings.append(f"{removed.overlong} row(s) left out: longer than {min(asked, context)}")
    return warnings


def _endings(base: BaseModel, row: Tokenized) -> list[str]:
    """A warning if the token that the rows teach to end with is none that a server stops at."""
    last = len(row.tokens.ids) - 1 - row.tokens.trained[::-1].index(True)
    end = row.tokens.ids[last]
    if row.row.text is not None or end in base.stops:
        return []
    warning = (
        f"answers end with {base.tokenizer.decode([end])}, which the model's settings do not name "
        "as an end token: servers will not stop there; add it to eos_token_id in its "
        "generation_config.json"
    )
    return [warning]


def _write(
    output: Path, base: BaseModel, request: StageRequest, rows: _Rows, sample: Sample
) -> list[Artifact]:
    folder = output / DATA
    folder.mkdir(parents=True, exist_ok=True)
    for split, side in zip(SPLITS, (rows.sides.train, rows.sides.validation), strict=True):
        rows.tokens[split].save(folder / f"{split}.safetensors")
        write_records((each.record for each in side), folder / f"{split}.jsonl")
    (folder / "sample.txt").write_text(sample.marked(), encoding="utf-8")
    card = data_card(
        rows.gathered,
        rows.sides,
        dataset=request.spec.dataset,
        removed=rows.removed,
        tokens=rows.tokens,
        warnings=rows.warnings,
    )
    card_path = output / "data-card.json"
    write_atomically(card_path, json.dumps(card, indent=1, ensure_ascii=False))
    return [
        artifact_of(MODEL, base.folder),
        artifact_of(DATA, folder),
        artifact_of(CARD, card_path),
    ]


def _facts(
    facts: ModelFacts, rows: _Rows, sample: Sample, artifacts: Sequence[Artifact]
) -> dict[str, JsonValue]:
    train, validation = rows.tokens["train"], rows.tokens["validation"]
    digests = {each.name: each.digest for each in artifacts}
    return {
        "numTrainRows": len(train),
        "numValidationRows": len(validation),
        "numTrainTokens": len(train.input_ids),
        "numTrainTargets": train.num_targets,
        "longestRow": rows.longest,
        "format": rows.gathered.format,
        "modelFacts": _shape(facts),
        "dataDigest": digests[DATA],
        "modelDigest": digests[MODEL],
        "removed": rows.removed.as_json(),
        "sample": sample.as_json(),
    }


def _shape(facts: ModelFacts) -> dict[str, JsonValue]:
    return {
        "numParameters": facts.num_parameters,
        "numLayers": facts.num_layers,
        "hiddenSize": facts.hidden_size,
        "intermediateSize": facts.intermediate_size,
        "numHeads": facts.num_heads,
        "numKvHeads": facts.num_kv_heads,
        "vocabSize": facts.vocab_size,
        "contextLength": facts.context_length,
        "isTied": facts.is_tied,
        "hasChatTemplate": facts.has_chat_template,
    }


def _said(rows: _Rows, *, note: str | None) -> str:
    removed = rows.removed
    counts = (
        f"{len(rows.tokens['train'])} training and {len(rows.tokens['validation'])} validation "
        f"rows of format {rows.gathered.format}; left out: {removed.duplicates} duplicates, "
        f"{removed.empty} empty, {removed.overlong} overlong"
    )
    return f"{counts}. {note}" if note else counts
