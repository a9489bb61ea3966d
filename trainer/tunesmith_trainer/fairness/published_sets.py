"""Published sets of bias, read as data: CrowS-Pairs, WinoBias and BBQ.

A set is what its file says it is, or an error that names file, line and what was expected; nothing
is fetched. Pairs become two sentences, the stereotyped one first; questions three answers each.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from tunesmith_api.json_io import read_json
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.file_formats import opened
from tunesmith_trainer.data.rows import Problems

_CROWS_COLUMNS: Final = ("sent_more", "sent_less", "bias_type")
_WINO_LINE: Final = re.compile(r"^\s*\d+\s+(.*\[.+\].*)$")
_ANSWERS: Final = ("ans0", "ans1", "ans2")
_BBQ_FIELDS: Final = (
    "context", "question", "label", "context_condition", "question_polarity", "category",
    "answer_info", *_ANSWERS,
)  # fmt: skip
_UNKNOWN: Final = "unknown"
_NAME_MARK: Final = re.compile("^[fm]-")
# As BBQ's own scripts read the marks of its gender questions.
_ALIASES: Final[Mapping[str, str]] = {
    "f": "woman", "m": "man", "girl": "woman", "boy": "man", "woman": "woman", "man": "man",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SentencePair:
    """The same sentence twice: as the stereotype has it, and with another group in its place."""

    stereotyped: str
    other: str
    category: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question of three answers.

    Attributes:
        prompt: context and question.
        answers: the three.
        correct: which of them is right: in an ambiguous context, the unknown one.
        unknown: which of them says that nobody can know.
        biased: which of them the stereotype has.
        is_ambiguous: whether the context does not tell.
        category: what it is about.
        template: what questions made from one template share.
    """

    prompt: str
    answers: tuple[str, str, str]
    correct: int
    unknown: int
    biased: int
    is_ambiguous: bool
    category: str
    template: str


def read_crows_pairs(paths: Sequence[Path], *, field: str) -> list[SentencePair]:
    """The rows of CrowS-Pairs (Nangia et al. 2020).

    Raises:
        BadInputError: a file is of another format.
    """
    pairs = []
    for path in paths:
        reader = csv.DictReader(io.StringIO(_text(path, field=field), newline=""))
        if not set(_CROWS_COLUMNS) <= set(reader.fieldnames or ()):
            told = f"the columns {', '.join(reader.fieldnames or ['none'])[:200]}"
            rule = f"crowsPairs has the columns {', '.join(_CROWS_COLUMNS)}"
            _refuse(field, path.name, told, rule)
        for line, row in enumerate(reader, start=2):
            more, less, category = (row[name] for name in _CROWS_COLUMNS)
            if not (more and less and category):
                _refuse(field, f"{path.name}:{line}", "a row with an empty cell", "all are given")
            pairs.append(SentencePair(more, less, category))
    return pairs


def read_wino_bias(paths: Sequence[Path], *, field: str) -> list[SentencePair]:
    """The lines of WinoBias (Zhao et al. 2018): files of pro-stereotyped lines, and of anti-.

    Raises:
        BadInputError: a file is of another format, or has no counterpart.
    """
    pro = {path.name.removeprefix("pro_"): path for path in paths if path.name.startswith("pro_")}
    anti = {
        path.name.removeprefix("anti_"): path for path in paths if path.name.startswith("anti_")
    }
    if not pro or set(pro) != set(anti) or len(pro) + len(anti) != len(paths):
        names = ", ".join(path.name for path in paths)[:200]
        rule = "every pro_… file of winoBias has an anti_… file of the same name"
        _refuse(field, "source", f"the files {names}", rule)
    pairs = []
    for name in sorted(pro):
        lines = [_wino_lines(path, field=field) for path in (pro[name], anti[name])]
        if len(lines[0]) != len(lines[1]):
            told = f"{len(lines[0])} and {len(lines[1])} lines"
            _refuse(field, name, told, "the two files of winoBias have as many lines")
        category = name.partition(".")[0].removeprefix("stereotyped_")
        pairs += [
            SentencePair(stereotyped, other, category)
            for stereotyped, other in zip(*lines, strict=True)
        ]
    # Lines that differ in nothing say nothing.
    return [pair for pair in pairs if pair.stereotyped != pair.other]


def read_bbq(paths: Sequence[Path], *, field: str) -> list[Question | None]:
    """The lines of BBQ (Parrish et al. 2022); None where nobody can tell the stereotyped answer.

    Raises:
        BadInputError: a file is of another format.
    """
    questions: list[Question | None] = []
    for path in paths:
        for number, line in enumerate(_text(path, field=field).strip().splitlines(), start=1):
            where = f"{path.name}:{number}"
            try:
                row = read_json(line)
            except ValueError:
                _refuse(field, where, "a line that is no JSON", "bbq has one JSON object a line")
            missing = [name for name in _BBQ_FIELDS if not isinstance(row, dict) or name not in row]
            if missing:
                rule = f"a line of bbq has {', '.join(_BBQ_FIELDS)}"
                _refuse(field, where, f"a line without {', '.join(missing)}", rule)
            try:
                questions.append(_question(row))
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                _refuse(field, where, "a line with other values", "bbq has its own form of values")
    return questions


def _question(row: Mapping[str, Any]) -> Question | None:
    marks = [str(row["answer_info"][name][-1]).casefold() for name in _ANSWERS]
    unknown = marks.index(_UNKNOWN)
    stereotyped = {
        _alias(group) for group in row["additional_metadata"].get("stereotyped_groups", ())
    }
    named = [
        place
        for place, mark in enumerate(marks)
        if place != unknown
        and {_alias(mark), _alias(row["answer_info"][_ANSWERS[place]][0])} & stereotyped
    ]
    # Of both groups, or of neither, is the stereotype: which answer it has, nobody can say.
    if len(named) != 1:
        return None
    other = 3 - unknown - named[0]
    is_negative = {"neg": True, "nonneg": False}[row["question_polarity"]]
    answers = (str(row["ans0"]), str(row["ans1"]), str(row["ans2"]))
    category = str(row["category"])
    return Question(
        prompt=f"{row['context']}\n\nQ: {row['question']}\n\nA:",
        answers=answers,
        correct=(0, 1, 2)[int(row["label"])],
        unknown=unknown,
        biased=named[0] if is_negative else other,
        is_ambiguous={"ambig": True, "disambig": False}[row["context_condition"]],
        category=category,
        template=f"{category} {row.get('question_index')}",
    )


def _alias(group: str) -> str:
    # Names tell both: "F-Black" where the stereotype is of "Black", "lowSES" where of "low SES".
    plain = _NAME_MARK.sub("", str(group).casefold()).replace(" ", "")
    return _ALIASES.get(plain, plain)


def _wino_lines(path: Path, *, field: str) -> list[str]:
    found = []
    for number, line in enumerate(_text(path, field=field).strip().splitlines(), start=1):
        match = _WINO_LINE.match(line)
        if match is None:
            rule = "a line of winoBias is a number and a sentence with [marks]"
            _refuse(field, f"{path.name}:{number}", "another line", rule)
        found.append(match[1].replace("[", "").replace("]", "").strip())
    return found


def _text(path: Path, *, field: str) -> str:
    problems, raw = Problems(), b""
    with opened(path, label=path.name, problems=problems) as file:
        raw = file.read()
    problems.refuse()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse(field, path.name, "bytes that are no UTF-8", "sets are UTF-8 text")


def _refuse(field: str, where: str, given: str, rule: str) -> NoReturn:
    raise BadInputError(
        Reason.DATASET_INVALID,
        f"spec.{field}: {where}: given {given}; {rule}; give the files as they were published, or "
        "another kind",
    )
