"""Rows whose answer the base model finds no likelier behind its own prompt than behind others'.

How much a prompt helps its answer is the instruction-following difficulty of Li et al. 2024 (NAACL,
arXiv 2308.12032), a ratio of two losses, with other rows' prompts in place of none: a form that all
answers of a data set have, such as the name of a class, then helps neither side. Where the base
finds that of too many rows it cannot tell answers of this data apart, and nothing is suspected.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.finetunejob.cleaning import UnlikelyAnswers
from tunesmith_engine.stages.contracts import Reporter
from tunesmith_trainer.data.cleaning.findings import Action, Finding
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.base_losses import mean_losses
from tunesmith_trainer.prepare.tokenization import TokenizedRow

RULE: Final = "unlikelyAnswers"
# Of fewer rows nobody can tell whether the base knows answers like these.
_FEWEST_ROWS: Final = 50
# Of the rows: where more are suspected it is the base that does not know (docs/log.md).
_MOST_SUSPECTED: Final = 0.2

Losses = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows that stay, what was found in which, and what could not be judged."""

    rows: StoredRows[TokenizedRow]
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()


def judge_answers(
    rows: StoredRows[TokenizedRow],
    settings: UnlikelyAnswers,
    *,
    model: Path,
    longest: int,
    reporter: Reporter,
) -> JudgedRows:
    """Apply `dataset.cleaning.unlikelyAnswers` to rows of at most `longest` tokens."""
    if settings.policy == "keep":
        return JudgedRows(rows)
    why = _unfit(rows)
    if why is not None:
        return JudgedRows(rows, warnings=(_unjudged(why),))
    answers = _Answers.of(rows)
    if len({*answers.prompt_keys()}) == 1:
        return JudgedRows(rows, warnings=(_unjudged("all prompts are the same"),))
    tried = answers.behind_others(settings.prompts, seed=settings.seed, longest=longest)
    progress = partial(_report, reporter)
    losses = mean_losses(tried, model=model, on_batch=progress).reshape(len(rows), -1)
    places = suspected(losses[:, 0], losses[:, 1:])
    if len(places) > _MOST_SUSPECTED * len(rows):
        why = (
            f"the base model finds {len(places)} of {len(rows)} answers no likelier behind their "
            "own prompts than behind others'"
        )
        return JudgedRows(rows, warnings=(_unjudged(why),))
    is_removed = settings.policy == "remove"
    action: Action = "removed" if is_removed else "kept"
    findings = [Finding(RULE, row.row.source, "train", action) for row in rows.chosen(places)]
    kept = np.setdiff1d(np.arange(len(rows)), places if is_removed else [])
    return JudgedRows(rows.chosen(kept), tuple(findings))


def suspected(own: Losses, others: Losses) -> NDArray[np.int64]:
    """Places of the answers that their own prompts do not help.

    `own`, shape (num_rows,), are mean losses behind the rows' own prompts; `others`, shape
    (num_rows, num_prompts), behind those of others.
    """
    return np.flatnonzero(own >= others.mean(axis=1))


def _unjudged(why: str) -> str:
    return f"cleaning.{RULE} suspects no row: {why}"


def _unfit(rows: StoredRows[TokenizedRow]) -> str | None:
    """Why nothing can be said of these rows."""
    if any(row.row.text is not None for row in rows[:1]):
        return "texts answer nothing"
    if len(rows) < _FEWEST_ROWS:
        return f"{len(rows)} rows are too few: it takes {_FEWEST_ROWS}"
    return None


def _report(reporter: Reporter, done: int, of: int) -> None:
    reporter.progress("asking the base model about the answers", step=done, total_steps=of)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Rows as tokens, and where the last answer of each begins; shape (num_rows,)."""

    rows: TokenRows
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: StoredRows[TokenizedRow]) -> "_Answers":
        starts: list[int] = []

        def tokens() -> Iterator[tuple[tuple[int, ...], tuple[bool, ...]]]:
            for row in rows:
                starts.append(row.tokens.first_of_last_answer)
                yield row.tokens.ids, row.tokens.trained

        stored = TokenRows.of(tokens())
        return cls(stored, np.array(starts))

    def behind_others(self, number: int, *, seed: int, longest: int) -> TokenRows:
        """For each row its last answer behind its own prompt, and behind `number` others."""
        order = np.random.default_rng(seed).permutation(len(self.starts))
        keys = self.prompt_keys()

        def tried() -> Iterator[tuple[list[int], list[bool]]]:
            for place in np.argsort(order).tolist():
                row = int(order[place])
                yield self._joined(row, row, longest)
                # The same prompt once more would say that the answer fits others' as well.
                after = (int(order[(place + step) % len(order)]) for step in count(1))
                others = (other for other in after if keys[other] != keys[row])
                for other in islice(others, number):
                    yield self._joined(other, row, longest)

        return TokenRows.of(tried())

    def prompt_keys(self) -> list[bytes]:
        """A digest of what stands before each answer."""
        prompts = (self.rows.row(row)[0][:start] for row, start in enumerate(self.starts))
        return [hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in prompts]

    def _joined(self, prompt: int, answer: int, longest: int) -> tuple[list[int], list[bool]]:
        given = self.rows.row(prompt)[0][: self.starts[prompt]]
        said, trained = (side[self.starts[answer] :] for side in self.rows.row(answer))
        # The oldest tokens go where both together are longer than the model reads.
        ids = np.concatenate([given[max(0, len(given) + len(said) - longest) :], said])
        return ids.tolist(), [False] * (len(ids) - len(said)) + trained.tolist()
