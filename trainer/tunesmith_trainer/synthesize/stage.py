"""The stage `synthesize`: rows of `dataset.synthesis`, written by a language model.

Leaves the artifacts `synthesized`, a folder like prepare's `data` with the new training rows as
tokens and as records, and `synthesis`, the card that counts them, without a word of theirs. Facts:
what the card has. Replies are kept in the output folder as they come.
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue
from pydantic.alias_generators import to_camel

from tunesmith_api.finetunejob.synthesis import Synthesis
from tunesmith_api.reasons import Reason
from tunesmith_engine.estimates import longest_row_of, model_facts_of
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_engine.stages.training_memory import longest_new_row
from tunesmith_trainer.data.cleaning.contamination import HeldOutGrams
from tunesmith_trainer.data.cleaning.made_rows import MadeRows, kept_warnings
from tunesmith_trainer.data.lacking_groups import LackingGroups
from tunesmith_trainer.data.prepared import (
    BENCHMARKS,
    SYNTHESIZED,
    Prepared,
    load_prepared,
    write_row_records,
)
from tunesmith_trainer.data.rows import Problems
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.prepare.tokenization import RowTokenizer
from tunesmith_trainer.synthesize.checks import Checks
from tunesmith_trainer.synthesize.diversity import Diversity, collapse_of, measured
from tunesmith_trainer.synthesize.examples import (
    LONGEST_EXAMPLE,
    Shortage,
    ShownExamples,
    examples_of,
)
from tunesmith_trainer.synthesize.instructions import Example
from tunesmith_trainer.synthesize.known_rows import KnownRows
from tunesmith_trainer.synthesize.language_models import Budget
from tunesmith_trainer.synthesize.rounds import RowWriter, Writers
from tunesmith_trainer.synthesize.writers import opened_writers
from tunesmith_trainer.versions import library_versions

_FIELD: Final = "dataset.synthesis"
# Of the rows that are wanted; fewer are told in a warning.
_MANY_MISSING: Final = 0.9
# On disk: of a row for each character, and of the three replies that a row takes at least, which
# are a block each.
_BYTES_PER_CHARACTER: Final = 6
_BYTES_OF_REPLIES: Final = 3 * 4096


@dataclass(frozen=True, slots=True)
class _Written:
    """What came of it, and how alike new and own questions are among themselves."""

    writer: RowWriter
    wanted: int
    budget: Budget
    names: dict[str, JsonValue]
    groups: dict[str, JsonValue]
    new: Diversity
    own: Diversity

    @property
    def warnings(self) -> list[str]:
        made, warnings = len(self.writer.rows), []
        if made < _MANY_MISSING * self.wanted:
            because = self.budget.exhausted or "nearly all that is written is thrown away"
            refused = _words(self.writer.refused)
            warnings.append(
                f"{_FIELD}: {made} rows in place of {self.wanted}: {because} (thrown away: "
                f"{refused})"
            )
        collapse = collapse_of(self.new, self.own)
        if collapse:
            warnings.append(
                f"{_FIELD}: the new questions are much alike: {collapse}; raise temperature, give "
                "more examples, or write fewer rows"
            )
        return [*warnings, *kept_warnings(self.writer.made, field=_FIELD)]

    def as_json(self) -> dict[str, JsonValue]:
        """The card."""
        rows = self.writer.rows
        tokens = TokenRows.of((row.tokens.ids, row.tokens.trained) for row in rows)
        answers = {row.record.reference for row in rows}
        return {
            **self.names,
            **self.groups,
            "wanted": self.wanted,
            "numAsked": self.writer.num_asked,
            "numRows": len(rows),
            "numTokens": len(tokens.input_ids),
            "numTargets": tokens.num_targets,
            "rowsByGenerator": dict(Counter[str](row.record.origin.generator for row in rows)),
            "thrownAway": dict(self.writer.refused.most_common()),
            "masked": dict(self.writer.made.masked.most_common()),
            "scores": {str(score): n for score, n in sorted(self.writer.scores.items())},
            "distinctAnswers": len(answers),
            "diversity": {"new": _told(self.new), "own": _told(self.own)},
            "spent": self.budget.as_json(),
            "warnings": list(self.warnings),
        }


def synthesize(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Let a language model write as many rows as are asked for.

    Raises:
        BadInputError: the job asks for no rows, has none to show, an endpoint refuses, or there is
            no room for what is written.
        TransientError: an endpoint cannot be reached, or is overloaded.
        VerdictError: not one row that is written is of use.
    """
    settings = request.spec.dataset.synthesis
    if settings is None:
        raise BadInputError(Reason.INVALID_SPEC, f"{_FIELD} is not given")
    prepared = load_prepared(request)
    records, lacking = prepared.records("train"), LackingGroups.load(prepared.folder)
    examples = examples_of(records, lacking)
    _refuse_none(examples, num_rows=len(records))
    shortage = _shortage(lacking, examples)
    wanted = min(settings.max_rows, max(1, round(settings.ratio * len(examples))))
    if shortage is not None:
        wanted = min(wanted, shortage.lacks.total())
    _refuse_no_room(settings, examples, wanted=wanted, output=Path(request.output))
    shown = ShownExamples(examples, size=settings.examples, shortage=shortage)
    written = _write(request, settings, prepared, shown, wanted=wanted, reporter=reporter)
    return _outcome(Path(request.output), written)


def _refuse_none(examples: Sequence[Example], *, num_rows: int) -> None:
    if not examples:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{_FIELD}: given {num_rows} training rows, of which none can be shown to who "
            "writes new ones; those are conversations without tools whose first question has an "
            f"answer, both of at most {LONGEST_EXAMPLE} characters; leave synthesis out",
        )


def _shortage(lacking: LackingGroups | None, examples: Sequence[Example]) -> Shortage | None:
    """What is to be written group by group, if that is asked for.

    Raises:
        BadInputError: no group lacks a row, but for such as have none to show.
    """
    if lacking is None:
        return None
    shortage = Shortage.of(lacking, examples)
    if not shortage.lacks:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.balance.method: given synthesize for {len(lacking.lacks)} groups; none that "
            "has a row to show lacks any; leave balance out, or choose another method",
        )
    return shortage


def _refuse_no_room(
    settings: Synthesis, examples: Sequence[Example], *, wanted: int, output: Path
) -> None:
    characters = sum(len(row.question) + len(row.answer) for row in examples) / len(examples)
    needed = wanted * (characters * _BYTES_PER_CHARACTER + _BYTES_OF_REPLIES)
    free = shutil.disk_usage(output).free
    if needed > free:
        raise BadInputError(
            Reason.DISK_ESTIMATE_EXCEEDED,
            f"{_FIELD}.ratio: given {settings.ratio:g}; {wanted} rows and the replies for them "
            f"take about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; lower it or "
            "maxRows, or make room",
        )


def _write(
    request: StageRequest,
    settings: Synthesis,
    prepared: Prepared,
    shown: ShownExamples,
    *,
    wanted: int,
    reporter: Reporter,
) -> _Written:
    tokenizer = load_tokenizer(prepared.model)
    row_tokenizer = RowTokenizer(
        tokenizer, longest=_longest(request), overlong="drop", problems=Problems()
    )
    budget = Budget(settings)
    known = KnownRows(
        prepared.records("train"), prepared.records("validation"), request.spec.dataset.cleaning
    )
    with opened_writers(request, settings, base=prepared.model, reporter=reporter) as writers:
        writer = RowWriter(
            settings,
            shown,
            writers=writers,
            checks=Checks.of(shown.examples, tokenizer.all_special_tokens),
            known=known,
            made=MadeRows(request.spec.dataset.cleaning, _benchmarks(prepared)),
            budget=budget,
            fitting=row_tokenizer.fitting,
        )
        writer.write(wanted, reporter=reporter)
    _refuse_nothing(writer, budget)
    new = [str(row.row.messages[-2].content) for row in writer.rows]
    own = [example.question for example in shown.examples]
    size = min(len(new), len(own))
    return _Written(
        writer=writer,
        wanted=wanted,
        budget=budget,
        names=_names(writers),
        groups=shown.as_json(),
        new=measured(new, num_texts=size, seed=settings.seed),
        own=measured(own, num_texts=size, seed=settings.seed),
    )


def _benchmarks(prepared: Prepared) -> HeldOutGrams | None:
    path = prepared.folder / BENCHMARKS
    return HeldOutGrams.load(path) if path.exists() else None


def _longest(request: StageRequest) -> int:
    """Tokens of a new row at most, by which the memory of training is planned."""
    result = request.inputs[PREPARE.name]
    facts, own = model_facts_of(result), longest_row_of(result)
    if facts is None or own is None:
        return request.spec.training.sequence_length
    return min(longest_new_row(request.spec, longest_row=own), facts.context_length)


def _refuse_nothing(writer: RowWriter, budget: Budget) -> None:
    if writer.rows:
        return
    if budget.exhausted is not None:
        cause, remedy = f"{budget.exhausted} is reached before that", "raise it"
    else:
        cause = f"thrown away: {_words(writer.refused)}"
        remedy = "name a better generator or critic, lower critic.minScore"
    raise VerdictError(
        Reason.DATASET_INVALID,
        f"{_FIELD}: after {writer.num_asked} questions there is not one row of use ({cause}); "
        f"{remedy}, or leave synthesis out",
    )


def _names(writers: Writers) -> dict[str, JsonValue]:
    critic = writers.critic
    return {"generator": writers.generator.name, "critic": None if critic is None else critic.name}


def _outcome(output: Path, written: _Written) -> StageOutcome:
    rows = written.writer.rows
    folder = output / SYNTHESIZED
    folder.mkdir(parents=True, exist_ok=True)
    tokens = TokenRows.of((row.tokens.ids, row.tokens.trained) for row in rows)
    tokens.save(folder / "train.safetensors")
    write_row_records((row.record for row in rows), folder / "train.jsonl")
    card = written.as_json()
    path = output / "synthesis.json"
    write_atomically(path, json.dumps(card, indent=1, ensure_ascii=False))
    spent = written.budget
    return StageOutcome(
        message=f"{len(rows)} new rows of {written.writer.num_asked} questions (thrown away: "
        f"{_words(written.writer.refused)}); {spent.requests} requests, "
        f"{spent.prompt_tokens + spent.completion_tokens:,} tokens"
        + (f", cost {spent.cost:.2f}" if spent.cost is not None else ""),
        artifacts=[artifact_of(SYNTHESIZED, folder), artifact_of("synthesis", path)],
        facts={name: value for name, value in card.items() if name != "warnings"},
        versions=library_versions("transformers", "tokenizers"),
        warnings=written.warnings,
    )


def _told(diversity: Diversity) -> dict[str, JsonValue]:
    return {to_camel(name): value for name, value in asdict(diversity).items()}


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"
