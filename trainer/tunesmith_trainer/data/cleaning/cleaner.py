"""All rules of `dataset.cleaning` in their order, each with its policy, and what they found.

Texts are repaired first, so that copies are copies again; what is masked is masked before rows are
compared with each other. `prepare.loading` runs it for the rows of each source. Rows lie on disk
meanwhile; in memory are what was found, and a few bytes of each row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from tunesmith_api.finetunejob.cleaning import Cleaning, Policy, RepairPolicy
from tunesmith_trainer.data.cleaning.conflicts import conflicting
from tunesmith_trainer.data.cleaning.contamination import contaminated
from tunesmith_trainer.data.cleaning.exact_duplicates import first_of_copies, is_empty
from tunesmith_trainer.data.cleaning.findings import Action, Finding
from tunesmith_trainer.data.cleaning.label_errors import label_errors
from tunesmith_trainer.data.cleaning.languages import language_of
from tunesmith_trainer.data.cleaning.lengths import length_outliers
from tunesmith_trainer.data.cleaning.near_duplicates import near_duplicate_groups
from tunesmith_trainer.data.cleaning.noise import NOISE_RULES
from tunesmith_trainer.data.cleaning.row_keys import RowKey, row_key
from tunesmith_trainer.data.cleaning.row_texts import compared_text, last_answer, with_texts
from tunesmith_trainer.data.cleaning.sensitive_data import treat_sensitive
from tunesmith_trainer.data.cleaning.text_repair import normalized, without_mojibake
from tunesmith_trainer.data.cleaning.uniformity import (
    begins_oddly,
    usual_system_prompts,
    with_usual_prompt,
)
from tunesmith_trainer.data.cleaning.white_space import uniform_white_space
from tunesmith_trainer.data.rows import Problems, Row
from tunesmith_trainer.data.stored_rows import StoredRows

# For the place of each row that breaks a rule, the row that it is a copy of or the like.
Broken = Mapping[int, str | None]
# Path of a rule, what is done, and how a row changes, or whether it breaks the rule.
Mending = tuple[str, RepairPolicy, Callable[[Row], Row]]
Judging = tuple[str, Policy, Callable[[Row], bool]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Texts that no training row may hold, and where they stand.

    `keys` are those of rows whose very copies the split leaves out, whatever the policy.
    """

    texts: Sequence[str]
    rows: Sequence[str]
    keys: frozenset[RowKey] = frozenset()


@dataclass(slots=True)
class Cleaner:
    """The rows of one source on their way through the rules."""

    rows: StoredRows[Row]
    cleaning: Cleaning
    split: str
    problems: Problems
    findings: list[Finding] = field(default_factory=list)

    def repair(self) -> None:
        """Mend and unify what stands in the rows."""
        repair, uniformity = self.cleaning.repair, self.cleaning.uniformity
        self._mend(
            ("repair.mojibake", repair.mojibake, partial(with_texts, change=without_mojibake)),
            ("repair.normalization", repair.normalization, partial(with_texts, change=normalized)),
            (
                "uniformity.whiteSpace",
                uniformity.white_space,
                partial(with_texts, change=uniform_white_space),
            ),
        )
        if uniformity.system_prompts != "keep":
            usual = partial(with_usual_prompt, usual=usual_system_prompts(self.rows))
            self._mend(("uniformity.systemPrompts", uniformity.system_prompts, usual))

    def drop_worthless(self) -> None:
        """Leave out what teaches nothing, or twice the same."""
        if self.cleaning.empty_rows == "remove":
            self._judge(("emptyRows", "remove", is_empty))
        else:
            self._refuse_empty()
        policy = self.cleaning.exact_duplicates
        self._apply("exactDuplicates", policy, lambda: self._named(first_of_copies(self.rows)))

    def treat_sensitive(self) -> None:
        """Find secrets and personal data, and mask, remove or refuse them."""
        self.rows, found = treat_sensitive(
            self.rows, cleaning=self.cleaning, split=self.split, problems=self.problems
        )
        self.findings += found

    def judge_rows(self) -> None:
        """The rules for one row by itself, and for its length among the others'."""
        noise = self.cleaning.noise
        rules: list[Judging] = [
            (f"noise.{name}", getattr(noise, attribute), NOISE_RULES[name])
            for attribute, info in type(noise).model_fields.items()
            if (name := str(info.alias)) in NOISE_RULES
        ]
        if noise.languages:
            rules.append(("noise.otherLanguages", noise.other_languages, self._is_other_language))
        self._judge(*rules)
        self._apply("noise.lengthOutliers", noise.length_outliers, self._length_outliers)
        self._judge(("uniformity.roles", self.cleaning.uniformity.roles, begins_oddly))

    def compare_rows(self, held_out: HeldOut) -> None:
        """The rules for rows beside each other, and beside those that are held out."""
        cleaning = self.cleaning
        self._apply(
            "conflictingAnswers",
            cleaning.conflicting_answers,
            lambda: self._named(conflicting(self.rows)),
        )
        self._apply("labelErrors", cleaning.label_errors.policy, self._label_errors)
        self._apply("nearDuplicates", cleaning.near_duplicates.policy, self._near_duplicates)
        self._apply(
            "contamination", cleaning.contamination.policy, lambda: self._contaminated(held_out)
        )

    def _label_errors(self) -> Broken:
        # Of a preference the better answer is no class, nor is a text any.
        asked = [row for row in self.rows if len(row.messages) > 1 and not row.rejected]
        if len(asked) < len(self.rows):
            return {}
        found = label_errors(
            [_asked(row) for row in asked],
            [row.messages[-1].content.strip() for row in asked],
            seed=self.cleaning.label_errors.seed,
        )
        return dict.fromkeys(found)

    def _near_duplicates(self) -> Broken:
        asked = self.cleaning.near_duplicates
        texts = (compared_text(row) for row in self.rows)
        groups = near_duplicate_groups(texts, asked.threshold, asked.seed)
        return self._named({place: first for place, first in enumerate(groups) if first != place})

    def _contaminated(self, held_out: HeldOut) -> Broken:
        asked = self.cleaning.contamination
        if not held_out.texts:
            return {}
        texts = (compared_text(row) for row in self.rows)
        found = contaminated(texts, held_out.texts, ngram=asked.ngram, overlap=asked.overlap)
        return {
            place: held_out.rows[other]
            for place, other in found.items()
            if row_key(self.rows[place]) not in held_out.keys
        }

    def _length_outliers(self) -> Broken:
        texts = (row.text if row.text is not None else last_answer(row) or "" for row in self.rows)
        return dict.fromkeys(length_outliers([len(text) for text in texts]))

    def _is_other_language(self, row: Row) -> bool:
        language = language_of(row.text if row.text is not None else last_answer(row) or "")
        return language is not None and language not in self.cleaning.noise.languages

    def _named(self, places: Mapping[int, int]) -> Broken:
        others = sorted(set(places.values()))
        named = {
            place: row.source for place, row in zip(others, self.rows.chosen(others), strict=True)
        }
        return {place: named[other] for place, other in places.items()}

    def _judge(self, *rules: Judging) -> None:
        """Rules for one row by itself, in one pass; what one removes the next do not see."""
        asked = [each for each in rules if each[1] != "keep"]
        found: dict[str, list[Finding]] = {rule: [] for rule, _, _ in asked}
        if not asked:
            return
        kept = [place for place, row in enumerate(self.rows) if self._stays(row, asked, found)]
        self.findings += chain.from_iterable(found.values())
        self._keep(kept)

    def _stays(
        self, row: Row, rules: Sequence[Judging], found: Mapping[str, list[Finding]]
    ) -> bool:
        for rule, policy, breaks in rules:
            if breaks(row):
                action: Action = "removed" if policy == "remove" else "kept"
                found[rule].append(Finding(rule, row.source, self.split, action))
                if policy == "remove":
                    return False
        return True

    def _apply(self, rule: str, policy: Policy, find: Callable[[], Broken]) -> None:
        """Note the rows that a rule finds, and leave them out where the policy says so."""
        if policy == "keep":
            return
        broken = find()
        action: Action = "removed" if policy == "remove" else "kept"
        rows = zip(broken.items(), self.rows.chosen([*broken]), strict=True)
        self.findings += [
            Finding(rule, row.source, self.split, action, of=of) for (_, of), row in rows
        ]
        if policy == "remove" and broken:
            self._keep([place for place in range(len(self.rows)) if place not in broken])

    def _keep(self, places: Sequence[int]) -> None:
        if len(places) < len(self.rows):
            self.rows = self.rows.chosen(places)

    def _mend(self, *rules: Mending) -> None:
        """Rules for the words of one row, in one pass."""
        asked = [each for each in rules if each[1] != "keep"]
        found: dict[str, list[Finding]] = {rule: [] for rule, _, _ in asked}
        if asked:
            self.rows = StoredRows.of(self._mended(asked, found))
            self.findings += chain.from_iterable(found.values())

    def _mended(
        self, rules: Sequence[Mending], found: Mapping[str, list[Finding]]
    ) -> Iterator[Row]:
        for row in self.rows:
            mended = row
            for rule, policy, change in rules:
                changed = change(mended)
                if changed is not mended:
                    action: Action = "repaired" if policy == "repair" else "kept"
                    found[rule].append(Finding(rule, row.source, self.split, action))
                    mended = changed if policy == "repair" else mended
            yield mended

    def _refuse_empty(self) -> None:
        empty = {place for place, row in enumerate(self.rows) if is_empty(row)}
        for row in self.rows.chosen(sorted(empty)):
            self.problems.add(
                row.source,
                given="an empty text" if row.text is not None else "an empty answer",
                rule="dataset.cleaning.emptyRows is fail",
                remedy="fill or delete the row, or set emptyRows: remove",
                is_bad_row=False,
            )
        self._keep([place for place in range(len(self.rows)) if place not in empty])


def _asked(row: Row) -> str:
    """What the last answer answers, without the system prompt."""
    return "\n".join(turn.said for turn in row.messages[:-1] if turn.role != "system")


def clean(
    rows: Iterable[Row],
    *,
    cleaning: Cleaning,
    split: str,
    problems: Problems,
    held_out: HeldOut | None,
) -> tuple[StoredRows[Row], list[Finding]]:
    """The rows that stay, as they are then, and what was found in which of them.

    Without `held_out` these are the held-out rows: mended as all others are, but never judged, so
    that jobs stay comparable.
    """
    cleaner = Cleaner(StoredRows.of(rows), cleaning, split, problems)
    cleaner.repair()
    cleaner.drop_worthless()
    if held_out is not None:
        cleaner.judge_rows()
    cleaner.treat_sensitive()
    if held_out is not None:
        cleaner.compare_rows(held_out)
    return cleaner.rows, cleaner.findings
