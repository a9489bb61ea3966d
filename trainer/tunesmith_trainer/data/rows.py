"""A row on its way from the user's file to tokens, and the problems that are met on the way.

`readers` make a `RawRow` of what stands in a file, `formats` a `Row` of what its fields mean;
`cleaning`, `chat_template` and `loss_mask` take it from there. None of them raises at the first bad
row: each adds to one `Problems`, and prepare refuses the data once everything was looked at.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

# A status message has room for no more than about this many lines that name a row each.
SHOWN: Final = 5
# Up to three words, as headers of tables have them.
_NAME: Final = re.compile(r"[^\W\d][\w.-]{0,29}( [\w.-]{1,30}){0,2}")

_KINDS: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the file has it: a mapping of fields, or the list of turns of a dialogue.

    `source` is "file:line"; the number of the row, from 1, where a file has no lines. `is_typed` is
    False of a CSV file: all of its cells are text, whatever they stand for.
    """

    source: str
    value: Any
    is_typed: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that an answer calls, with what its row says of it."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user, assistant or tool.

    Attributes:
        role: who speaks.
        content: the words; maybe none where an answer calls tools.
        tool_calls: only of an assistant.
        tool_call_id: of a tool, the call that it answers, where the row says so.
        name: of a tool, its name, where the row says so.
        trained: whether an answer is learnt; nothing that others say ever is.
        thinking: of an assistant, what it thought before it answered; trained with the answer.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    trained: bool = True
    thinking: str = ""

    def __reduce__(self) -> tuple[type["Message"], tuple[Any, ...]]:
        # Rows wait on disk: what dataclasses do by themselves takes several times as long.
        return Message, (
            self.role,
            self.content,
            self.tool_calls,
            self.tool_call_id,
            self.name,
            self.trained,
            self.thinking,
        )

    @property
    def is_trained(self) -> bool:
        """Whether this is an answer that is learnt."""
        return self.role == "assistant" and self.trained

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls of tools as a JSON value, arguments as objects, as chat templates want them."""
        return [
            {
                **({} if call.id is None else {"id": call.id}),
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in self.tool_calls
        ]

    @property
    def said(self) -> str:
        """The words with the thinking before them, and the calls, as JSON, behind them."""
        # Most turns are words alone, and rules ask for them a dozen times.
        if not (self.thinking or self.tool_calls):
            return self.content
        calls = [json.dumps(call["function"], ensure_ascii=False) for call in self.calls]
        words = [self.content] if self.content.strip() or not calls else []
        return "\n".join([*([self.thinking] if self.thinking else []), *words, *calls])

    def as_chat(self) -> dict[str, Any]:
        """The turn as OpenAI's protocol and chat templates have it, without what it has not."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            # Qwen's and DeepSeek's name, and that of gpt-oss; a template knows one of them.
            turn["reasoning_content"] = turn["thinking"] = self.thinking
        if self.tool_calls:
            turn["tool_calls"] = self.calls
        named = {"tool_call_id": self.tool_call_id, "name": self.name}
        return turn | {key: value for key, value in named.items() if value is not None}

    def with_content(self, content: str) -> "Message":
        """The same turn in other words."""
        return replace(self, content=content)


Generator = Literal[
    "none",
    "synonyms",
    "backTranslation",
    "paraphrase",
    "counterfactual",
    "adversarial",
    "sensitive",
    "selfInstruct",
    "evolve",
    "answers",
]


@dataclass(frozen=True, slots=True)
class Origin:
    """What made a row.

    Attributes:
        generator: the remedy that wrote it; none of a row that the user gave.
        parent: "file:line" of the row that it was made from.
        examples: of a new row, "file:line" of those that its writer was shown.
        prompt_digest: of what a language model was asked, where one wrote it.
    """

    generator: Generator = "none"
    parent: str | None = None
    examples: tuple[str, ...] = ()
    prompt_digest: str | None = None


GIVEN: Final = Origin()

# As OpenAI's protocol has it: {"type": "function", "function": {"name": …, "parameters": {…}}}.
Tool = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Highlight:
    """A part of a prompt that somebody held to be the reason of the answer.

    `text` as the prompt has it: wherever it stands, or only the `number`th time, from 0, in what
    the user says last. Words and no places: cleaning and remedies move those.
    """

    text: str
    number: int | None = None

    def __reduce__(self) -> tuple[type["Highlight"], tuple[Any, ...]]:
        return Highlight, (self.text, self.number)


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation (`messages`) or a text (`text`); exactly one of the two is given.

    A preference is the conversation with the chosen answer, and in `rejected` that with the other
    one. Both begin with the same `num_prompt` turns, of which none is trained. `num_joined` turns
    of the file are part of the one before them, which is of the same role. `labels` has what stands
    in the columns by which the job divides its rows, `rationale` why the answer is right, and
    `highlights` which parts of the prompt are the reason.
    """

    source: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    rejected: tuple[Message, ...] = ()
    num_prompt: int = 0
    num_joined: int = 0
    # What may be called: the template shows it to the model, and nothing of it is trained.
    tools: tuple[Tool, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = GIVEN
    rationale: str = ""
    highlights: tuple[Highlight, ...] = ()

    def __reduce__(self) -> tuple[type["Row"], tuple[Any, ...]]:
        return Row, (
            self.source,
            self.messages,
            self.text,
            self.rejected,
            self.num_prompt,
            self.num_joined,
            self.tools,
            self.labels,
            self.origin,
            self.rationale,
            self.highlights,
        )


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was skipped: where it stands and the rule that it breaks, nothing of its words."""

    source: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    source: str
    given: str
    rule: str
    remedy: str


def _said(rows: Mapping[str, Sequence[str]], rule: str, remedy: str) -> str:
    """`a.jsonl:1, 4: given tools; a.jsonl:2: given calls; RULE; REMEDY`."""
    given = [f"{_places(sources)}: given {what}" for what, sources in rows.items()]
    return "; ".join([*given, rule, remedy])


def _places(sources: Sequence[str]) -> str:
    """`a.jsonl:1, 4, b.jsonl:1`: the name of a file once, its rows behind it."""
    told, last = [], ""
    for source in sources:
        file, colon, line = source.rpartition(":")
        told.append(line if colon and file == last else source)
        last = file
    return ", ".join(told)


class Problems:
    """The first few problems of the user's data in words, and how many there are.

    As many as `max_bad_rows` rows may be bad, and are skipped. What is wrong with a whole file is
    no bad row: nobody knows how many rows it lost.
    """

    def __init__(self, *, max_bad_rows: int = 0) -> None:
        self.count = 0
        self._shown: list[_Problem] = []
        self.bad_rows: list[BadRow] = []
        self._max_bad_rows = max_bad_rows
        self._num_bad_rows = 0

    def add(
        self, source: str, *, given: str, rule: str, remedy: str, is_bad_row: bool = True
    ) -> None:
        """Note that `source` ("file:line") holds `given`, which breaks `rule`."""
        self.count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(_Problem(source=source, given=given, rule=rule, remedy=remedy))
        if is_bad_row:
            self._num_bad_rows += 1
            if len(self.bad_rows) < self._max_bad_rows:
                self.bad_rows.append(BadRow(source, rule))

    def state(self) -> dict[str, Any]:
        """All of it as JSON, for an attempt that goes on."""
        return {
            "count": self.count,
            "shown": [asdict(each) for each in self._shown],
            "badRows": [asdict(each) for each in self.bad_rows],
            "numBadRows": self._num_bad_rows,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as `state` tells; `max_bad_rows` stays that of this attempt."""
        self.count = state["count"]
        self._shown = [_Problem(**each) for each in state["shown"]]
        self.bad_rows = [BadRow(**each) for each in state["badRows"]]
        self._num_bad_rows = state["numBadRows"]

    def take(self, others: "Problems") -> None:
        """Have those of later rows as well; `others` has room for as many bad rows as it saw."""
        self.count += others.count
        self._shown += others._shown[: SHOWN - len(self._shown)]  # noqa: SLF001 - one of us
        self.bad_rows += others.bad_rows[: self._max_bad_rows - len(self.bad_rows)]
        self._num_bad_rows += others._num_bad_rows  # noqa: SLF001

    @property
    def shown(self) -> list[str]:
        """The first problems in words; what is wrong with several rows is said once of them all."""
        alike: dict[tuple[str, str], dict[str, list[str]]] = {}
        for each in self._shown:
            of_rule = alike.setdefault((each.rule, each.remedy), {})
            of_rule.setdefault(each.given, []).append(each.source)
        return [_said(rows, rule, remedy) for (rule, remedy), rows in alike.items()]

    def refuse(self, reason: Reason = Reason.DATASET_INVALID) -> None:
        """Return if there are no problems, or none but bad rows, of which so many may be.

        Raises:
            BadInputError: there are others; its message lists the first ones and counts the rest.
        """
        if self.count == self._num_bad_rows <= self._max_bad_rows:
            return
        rest = self.count - len(self._shown)
        more = [f"and {rest} more problem{'s' * (rest != 1)}"] if rest else []
        if self._num_bad_rows > self._max_bad_rows > 0:
            more.append(
                f"{self._num_bad_rows} rows are bad, and dataset.maxBadRows is "
                f"{self._max_bad_rows}; mend them, or raise it"
            )
        raise BadInputError(reason, "\n".join([*self.shown, *more]))


def described(value: object, *, words: Collection[str] = ()) -> str:
    """What a value is, and how large, but not what it says: messages go where no row may go.

    One of `words`, which are the field's own and nobody's data, is told as it is.
    """
    if isinstance(value, str):
        return f"'{value}'" if value in words else f"text of {counted(len(value), 'character')}"
    if isinstance(value, list | dict):
        kind, part = ("a list", "item") if isinstance(value, list) else ("an object", "field")
        return f"{kind} of {counted(len(value), part)}"
    # Columnar files and YAML know more types.
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def counted(number: int, noun: str) -> str:
    """`1 field`, `2 fields`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def names_of(fields: Iterable[object]) -> str:
    """Names of fields, sorted; only described where one of them looks like a row's words.

    NB: the first row of a CSV file that has no header is taken for its names.
    """
    names = sorted(map(str, fields))
    are_names = all(_NAME.fullmatch(name) for name in names)
    return ", ".join(names if are_names else map(described, names)) or "(none)"
