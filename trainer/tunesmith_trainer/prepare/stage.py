"""The prepare stage: from the manifest's model and data to files that are proven fit to train on.

Leaves `model` (a folder of safetensors with tokenizer and chat template), `data` (both splits as
tokens and as records), `card` (the data card), `reference` (statistics that live traffic is
compared with) and `audit` (rule and row of all that cleaning found). The log and `facts` show one
row with the trained part marked.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

from pydantic import JsonValue
from pydantic.alias_generators import to_camel

from tunesmith_api.results import Artifact
from tunesmith_engine.drift.sketches import REFERENCE_FILE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.augment.children import open_generators
from tunesmith_trainer.augment.generator import TextGenerator
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.cleaning.contamination import HeldOutGrams
from tunesmith_trainer.data.cleaning.findings import (
    Action,
    Finding,
    counted_by_rule,
    told,
    warnings_of,
    write_audit,
)
from tunesmith_trainer.data.cleaning.made_rows import MadeRows
from tunesmith_trainer.data.prepared import (
    AUDIT,
    BENCHMARKS,
    CARD,
    DATA,
    MODEL,
    REFERENCE,
    REPLAY_ROWS,
    SPLITS,
    TEACHER,
    Split,
    rejected_file,
    write_row_records,
)
from tunesmith_trainer.data.rows import SHOWN, Problems
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.base_model import BaseModel, prepare_base
from tunesmith_trainer.prepare.data_card import (
    SAMPLE_FILE,
    RemovedRows,
    SampleRow,
    count_removed,
    data_card,
    markers_in,
    sample_row,
)
from tunesmith_trainer.prepare.foreign_template import warning_of_template
from tunesmith_trainer.prepare.highlighted import warnings_of_highlights
from tunesmith_trainer.prepare.kept_phases import KeptPhases
from tunesmith_trainer.prepare.loading import LoadedData, benchmark_grams, load_data
from tunesmith_trainer.prepare.preflight import (
    note_on_memory,
    refuse_missing,
    refuse_too_long,
    refuse_unfit_model,
    refuse_without_gpu,
)
from tunesmith_trainer.prepare.reference_statistics import reference_statistics
from tunesmith_trainer.prepare.replay import ReplayRows, read_replay
from tunesmith_trainer.prepare.splits import Splits, split_data
from tunesmith_trainer.prepare.teacher import prepare_teacher, refuse_short_context
from tunesmith_trainer.prepare.tokenization import (
    RowTokenizer,
    TokenizedRow,
    rejected_tokens,
    stored_tokens,
)
from tunesmith_trainer.prepare.training_rows import RemediedRows, remedied_rows
from tunesmith_trainer.prepare.unlikely_answers import judge_answers
from tunesmith_trainer.versions import library_versions

_log = logging.getLogger(__name__)

# Part of the rows; cleaning took them out, but more than half is seldom what somebody meant.
_MANY_DUPLICATES: Final = 0.5


@dataclass(frozen=True, slots=True)
class _PreparedRows:
    """What became of the rows; `given` are the splits without what remedies made of them.

    `found` is what cleaning found in the rows of the job's own sources.
    """

    loaded: LoadedData
    given: Splits
    remedied: RemediedRows
    found: list[Finding]
    tokens: dict[Split, TokenRows]
    rejected: dict[Split, TokenRows]
    removed: RemovedRows
    replay: ReplayRows | None
    benchmarks: HeldOutGrams | None
    warnings: list[str]

    @property
    def findings(self) -> list[Finding]:
        """What cleaning found, in the replay rows as well, and in what remedies have read."""
        replayed = self.replay.findings if self.replay else []
        return [*self.found, *replayed, *self.remedied.findings]

    @property
    def splits(self) -> Splits:
        """The rows that are trained on, and those that are held out."""
        return self.remedied.splits

    @property
    def longest(self) -> int:
        """Tokens of the longest row that is trained or held out."""
        replayed = [self.replay.tokens] if self.replay else []
        sides = (*self.tokens.values(), *self.rejected.values(), *replayed)
        return max(int(rows.lengths.max()) for rows in sides)


def prepare(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Check and convert model and data.

    Raises:
        BadInputError: model or data break a rule, later stages cannot do to the model what the
            job asks, or there is too little memory or disk for the job.
        TransientError: a source cannot be reached now.
    """
    # Cheapest first: what a look at the request can refuse, then the data, then gigabytes of
    # weights.
    refuse_missing(request)
    refuse_without_gpu(request.spec)
    generators = open_generators(request)
    reporter.progress("reading the data")
    problems = Problems(max_bad_rows=request.spec.dataset.max_bad_rows)
    phases = KeptPhases(Path(request.output))
    loaded = phases.cleaned(
        lambda: load_data(request, problems=problems, reporter=reporter), problems=problems
    )
    reporter.progress("fetching the base model")
    base = prepare_base(request)
    refuse_unfit_model(request.spec, base.folder)
    teacher = prepare_teacher(request, base.tokenizer)
    benchmarks = benchmark_grams(request, reporter=reporter)
    rows = _prepare_rows(
        request,
        base,
        loaded,
        reporter,
        generators=generators,
        phases=phases,
        benchmarks=benchmarks,
    )
    # A second time, and by the longest row that there is: a job of short rows needs less than
    # training.sequenceLength would ask for.
    taught = teacher.facts.num_parameters if teacher else None
    refuse_too_long(request, base.facts, longest_row=rows.longest, teacher=taught)
    refuse_short_context(teacher, longest_row=rows.longest)
    sample = sample_row(rows.splits.train[0].tokens, base.tokenizer)
    markers = markers_in(rows.tokens.values(), base.tokenizer)
    reporter.progress("writing the data")
    artifacts = _write(Path(request.output), base, request, rows, sample)
    if teacher is not None:
        artifacts.append(artifact_of(TEACHER, teacher.folder))
    phases.drop()
    # NB: not the row itself. In a cluster the log goes wherever logs of pods are gathered.
    _log.info("the first training row, with what is trained in ⟦ ⟧: %s", _marked_in(request))
    notes = [
        *rows.remedied.notes,
        _note_on_version(request, base),
        note_on_memory(request, base.facts, longest_row=rows.longest, teacher=taught),
    ]
    message = _message(rows, notes=[note for note in notes if note])
    _log.info("%s", message)
    return StageOutcome(
        message=message,
        artifacts=artifacts,
        facts={
            **_facts(base, rows, artifacts),
            "teacherParameters": taught,
            "markers": [*markers],
        },
        versions=library_versions("transformers", "tokenizers", "torch"),
        warnings=rows.warnings,
    )


def _prepare_rows(
    request: StageRequest,
    base: BaseModel,
    loaded: LoadedData,
    reporter: Reporter,
    *,
    generators: Sequence[TextGenerator],
    phases: KeptPhases,
    benchmarks: HeldOutGrams | None,
) -> _PreparedRows:
    spec = request.spec
    longest = min(spec.training.sequence_length, base.facts.context_length)
    row_tokenizer = RowTokenizer(
        base.tokenizer,
        longest=longest,
        overlong=spec.dataset.overlong,
        problems=loaded.problems,
    )
    bad_before = len(loaded.problems.bad_rows)
    tokenized = phases.tokenized(
        lambda: {
            split: row_tokenizer.tokenize(source.rows, reporter=reporter)
            for split, source in loaded.sources.items()
        },
        problems=loaded.problems,
    )
    dropped = sum(
        len(source.rows) - len(tokenized[split]) for split, source in loaded.sources.items()
    )
    overlong = dropped - (len(loaded.problems.bad_rows) - bad_before)
    judged = judge_answers(
        tokenized["train"],
        spec.dataset.cleaning.unlikely_answers,
        model=base.folder,
        longest=longest,
        reporter=reporter,
    )
    splits = split_data(
        judged.rows,
        tokenized.get("validation"),
        dataset=spec.dataset,
        near=loaded.near_duplicates(spec.dataset),
    )
    replay = read_replay(request, splits, row_tokenizer=row_tokenizer, reporter=reporter)
    # Behind the replay rows, which may be bad as well.
    found = [*loaded.findings, *judged.findings]
    removed = count_removed(loaded, splits, findings=found, num_overlong=overlong)
    remedied = remedied_rows(
        request,
        splits,
        generators=generators,
        tokenizer=base.tokenizer,
        model=base.folder,
        longest=longest,
        made=MadeRows(spec.dataset.cleaning, benchmarks),
        reporter=reporter,
    )
    tokens: dict[Split, TokenRows] = {
        "train": stored_tokens(remedied.splits.train),
        "validation": stored_tokens(remedied.splits.validation),
    }
    return _PreparedRows(
        loaded=loaded,
        given=splits,
        remedied=remedied,
        found=found,
        tokens=tokens,
        rejected=rejected_tokens(remedied.splits.train, remedied.splits.validation),
        removed=removed,
        replay=replay,
        benchmarks=benchmarks,
        warnings=[
            *_warnings(request, base, loaded, removed),
            *splits.warnings,
            *remedied.warnings,
            *_warnings_of_end(base, splits.train[0]),
            *judged.warnings,
            *warnings_of(found),
            *warnings_of_highlights(spec, remedied.splits, tokens, base.tokenizer),
        ],
    )


def _warnings(
    request: StageRequest, base: BaseModel, loaded: LoadedData, removed: RemovedRows
) -> list[str]:
    warnings = []
    asked, context = request.spec.training.sequence_length, base.facts.context_length
    if asked > context:
        warnings.append(
            f"training.sequenceLength is {asked}; rows end at the model's context of {context}"
        )
    if removed.duplicates > _MANY_DUPLICATES * loaded.num_read:
        warnings.append(
            f"{removed.duplicates} of {loaded.num_read} rows are exact duplicates of others"
        )
    if loaded.num_joined_turns:
        warnings.append(
            f"{loaded.num_joined_turns} turn(s) follow one of the same speaker, and were joined "
            "with it, a blank line between them; if a turn is missing there, mend the rows"
        )
    if removed.bad:
        first = ", ".join(row.source for row in loaded.problems.bad_rows[:SHOWN])
        more = ", …" if removed.bad > SHOWN else ""
        warnings.append(
            f"{removed.bad} bad row(s) skipped ({first}{more}); the data card has the rule that "
            "each breaks"
        )
    if removed.overlong:
        warnings.append(f"{removed.overlong} row(s) left out: longer than {min(asked, context)}")
    foreign = warning_of_template(base.tokenizer)
    if foreign and not loaded.is_plain_text:
        warnings.append(foreign)
    return warnings


def _warnings_of_end(base: BaseModel, row: TokenizedRow) -> list[str]:
    """A warning if the token that the rows teach to end with is none that a server stops at.

    So it is where a base model has borrowed a chat template: the tuned model would talk on for
    ever.
    """
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
    output: Path, base: BaseModel, request: StageRequest, rows: _PreparedRows, sample: SampleRow
) -> list[Artifact]:
    folder = output / DATA
    folder.mkdir(parents=True, exist_ok=True)
    for split, kept in zip(SPLITS, (rows.splits.train, rows.splits.validation), strict=True):
        rows.tokens[split].save(folder / f"{split}.safetensors")
        write_row_records((row.record for row in kept), folder / f"{split}.jsonl")
    if rows.replay is not None:
        rows.replay.tokens.save(folder / REPLAY_ROWS)
    if rows.benchmarks is not None:
        rows.benchmarks.save(folder / BENCHMARKS)
    if rows.remedied.lacking is not None:
        rows.remedied.lacking.save(folder)
    for split, rejected in rows.rejected.items():
        rejected.save(rejected_file(folder, split))
    _marked_in(request).write_text(sample.marked(), encoding="utf-8")
    (folder / SAMPLE_FILE).write_text(
        json.dumps(sample.as_json(), ensure_ascii=False), encoding="utf-8"
    )
    card = rows.remedied.card | data_card(
        rows.loaded,
        rows.splits,
        dataset=request.spec.dataset,
        num_kept=len(rows.given.train) + len(rows.given.validation),
        removed=rows.removed,
        findings=rows.found,
        tokens=rows.tokens,
        rejected=rows.rejected,
        warnings=rows.warnings,
    )
    card_path = output / "data-card.json"
    write_atomically(card_path, json.dumps(card, indent=1, ensure_ascii=False))
    reference = reference_statistics(
        # Nobody sends what a remedy wrote, nor asks the same more often since a row is repeated.
        {"train": rows.given.train, "validation": rows.given.validation}
    )
    reference_path = output / REFERENCE_FILE
    write_atomically(
        reference_path, reference.model_dump_json(by_alias=True, exclude_defaults=True)
    )
    audit_path = output / "cleaning-audit.jsonl"
    write_audit(rows.findings, audit_path)
    return [
        artifact_of(MODEL, base.folder),
        artifact_of(DATA, folder),
        artifact_of(CARD, card_path),
        artifact_of(REFERENCE, reference_path),
        artifact_of(AUDIT, audit_path),
    ]


def _marked_in(request: StageRequest) -> Path:
    """The sample for people, beside the rows, which whoever may read them may see."""
    return Path(request.output) / DATA / "sample.txt"


def _facts(
    base: BaseModel, rows: _PreparedRows, artifacts: Sequence[Artifact]
) -> dict[str, JsonValue]:
    train, validation = rows.tokens["train"], rows.tokens["validation"]
    digests = {artifact.name: artifact.digest for artifact in artifacts}
    rejected = rows.rejected.get("train")
    return {
        # Of preferences all other counts are those of the chosen answers.
        **({} if rejected is None else {"numRejectedTargets": rejected.num_targets}),
        "numTrainRows": len(train),
        "numValidationRows": len(validation),
        "numTrainTokens": len(train.input_ids),
        "numTrainTargets": train.num_targets,
        "longestRow": rows.longest,
        "numReplayRows": len(rows.replay.tokens) if rows.replay else None,
        "format": rows.loaded.format,
        "beginToken": base.tokenizer.decode(begin_ids(base.tokenizer)) or None,
        "modelFacts": {to_camel(name): value for name, value in asdict(base.facts).items()},
        "dataDigest": digests[DATA],
        "modelDigest": digests[MODEL],
        "parentDigest": base.parent_digest,
        "removed": rows.removed.as_json(),
        "cleaning": cast("JsonValue", counted_by_rule(rows.findings)),
    }


def _note_on_version(request: StageRequest, base: BaseModel) -> str | None:
    """What is continued, and that its learning rate has decayed: it rises again by default."""
    if base.parent_digest is None:
        return None
    ratio = request.spec.training.schedule.warmup_ratio
    return (
        f"continues the version {base.parent_digest}; the rate warms up again over {ratio:.0%} of "
        "the steps (training.schedule.warmupRatio)"
    )


def _message(rows: _PreparedRows, *, notes: Sequence[str]) -> str:
    removed = rows.removed
    counts = (
        f"{len(rows.tokens['train'])} training and {len(rows.tokens['validation'])} validation "
        f"rows of format {rows.loaded.format}; left out: {removed.duplicates} duplicates, "
        f"{removed.empty} empty, {removed.overlong} overlong"
        f"{f', {removed.bad} bad' if removed.bad else ''}"
    )
    # Empty rows and copies are counted above.
    cleaning = counted_by_rule(
        found for found in rows.findings if found.rule not in {"emptyRows", "exactDuplicates"}
    )
    actions: tuple[Action, ...] = ("removed", "repaired", "masked")
    done = {action: told(cleaning, action) for action in actions}
    changed = [f"{action} by cleaning: {rules}" for action, rules in done.items() if rules]
    return ". ".join([counts, *changed, *notes])
