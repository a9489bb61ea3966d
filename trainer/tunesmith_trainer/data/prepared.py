"""What later stages take from prepare: the base model, and both splits as tokens and as records.

A split lies on disk twice, row by row in the same order: `train.safetensors` is what is trained on
and scored (`token_rows`), `train.jsonl` is what people and generation read, one `RowRecord` a line.
Rows of preferences are those of the chosen answers, so that whatever reads rows reads good ones;
the rejected answers lie beside them in `train.rejected.safetensors`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith_engine.stages.catalog import PREPARE, REHEARSE, SYNTHESIZE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.data.rows import GIVEN, Highlight, Message, Origin, Tool, ToolCall
from tunesmith_trainer.data.token_rows import TokenRows

Split = Literal["train", "validation"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation")

MODEL: Final = "model"
# What the model learns from, where the job has such.
TEACHER: Final = "teacher"
DATA: Final = "data"
CARD: Final = "card"
AUDIT: Final = "audit"
REFERENCE: Final = "reference"
# In the folder of `data`: n-grams of the rows that `contamination.against` names, as hashes.
BENCHMARKS: Final = "benchmarks.npz"
# Of the stage `rehearse`.
REPLAY: Final = "replay"
REPLAY_ROWS: Final = "replay.safetensors"
# Of the stage `synthesize`: a folder like `data`, with a training split alone.
SYNTHESIZED: Final = "synthesized"


@dataclass(frozen=True, slots=True)
class RowRecord:
    """A kept row, as text.

    Attributes:
        source: "file:line" of the row in the user's data.
        messages: the conversation; None for rows of format text.
        text: the text of a row of format text; None for conversations.
        prompt: rendered up to and with the generation prompt of the last assistant turn.
        reference: what the assistant says in that turn.
        rejected: of a preference, whose chosen answer is the reference: what it should not say.
        tools: that the conversation may call, as OpenAI's protocol has them; the prompt shows them.
        origin: what made the row; of one that a remedy made, `source` is that of its parent.
        rationale: why the reference is right, where the job learns from that.
        highlights: which parts of the prompt are the reason, where the job reads them.
    """

    source: str
    messages: list[Message] | None
    text: str | None
    prompt: str | None
    reference: str | None
    rejected: str | None = None
    tools: tuple[Tool, ...] = ()
    origin: Origin = GIVEN
    rationale: str | None = None
    highlights: tuple[Highlight, ...] = ()

    def __reduce__(self) -> tuple[type["RowRecord"], tuple[Any, ...]]:
        # Rows wait on disk while they are prepared.
        return RowRecord, (
            self.source,
            self.messages,
            self.text,
            self.prompt,
            self.reference,
            self.rejected,
            self.tools,
            self.origin,
            self.rationale,
            self.highlights,
        )

    def as_json(self) -> dict[str, Any]:
        """The fields, without what turns have by default: most have no calls, and are trained."""
        turns = [_told(turn) for turn in self.messages or ()]
        told: dict[str, Any] = {
            "source": self.source,
            "messages": None if self.messages is None else turns,
            "text": self.text,
            "prompt": self.prompt,
            "reference": self.reference,
            "rejected": self.rejected,
            "tools": self.tools,
            "origin": asdict(self.origin),
        }
        if self.rationale is not None:
            told["rationale"] = self.rationale
        if self.highlights:
            told["highlights"] = tuple(map(asdict, self.highlights))
        return told


@dataclass(frozen=True, slots=True)
class Prepared:
    """The artifacts of prepare.

    Attributes:
        model: folder of the base model: safetensors, tokenizer, chat template.
        train: rows to learn from, those that a model wrote behind the others; of preferences,
            those with the chosen answers.
        validation: held-out rows, likewise.
        folder: where the splits lie.
        rejected: of preferences, by split, the rows with the rejected answers, in the same order;
            empty for rows of any other format.
        synthesized: where the rows lie that `synthesize` wrote, if the reader is given them.
        kept: by split, the numbers of the rows that this stage sees, where those are not all.
    """

    model: Path
    train: TokenRows
    validation: TokenRows
    folder: Path
    rejected: Mapping[Split, TokenRows] = field(default_factory=dict)
    synthesized: Path | None = None
    kept: Mapping[Split, Sequence[int]] = field(default_factory=dict)

    def records(self, split: Split) -> list[RowRecord]:
        """The rows of a split as people read them, in the order of its tokens."""
        folders = [self.folder]
        if self.synthesized is not None and split == "train":
            folders.append(self.synthesized)
        records = [
            record for folder in folders for record in read_row_records(folder / f"{split}.jsonl")
        ]
        kept = self.kept.get(split)
        return records if kept is None else [records[row] for row in kept]

    def renumbered(self, numbers: NDArray[np.int32], *, model: Path) -> "Prepared":
        """As a smaller tokenizer, that of the folder `model`, has made them."""
        return replace(
            self,
            model=model,
            train=self.train.renumbered(numbers),
            validation=self.validation.renumbered(numbers),
            rejected={split: rows.renumbered(numbers) for split, rows in self.rejected.items()},
        )

    def with_rows(self, rows: Mapping[Split, Sequence[int]]) -> "Prepared":
        """With these rows alone of the splits that are named; of all rows, in this order."""
        if self.kept:
            raise ValueError("rows were chosen already")
        splits = {"train": self.train, "validation": self.validation}
        chosen = {split: splits[split].subset(numbers) for split, numbers in rows.items()}
        return replace(
            self,
            train=chosen.get("train", self.train),
            validation=chosen.get("validation", self.validation),
            rejected={
                split: answers.subset(rows[split]) if split in rows else answers
                for split, answers in self.rejected.items()
            },
            kept=dict(rows),
        )


def load_prepared(request: StageRequest) -> Prepared:
    """Read what the job's prepare stage left, and behind it what `synthesize` did.

    Raises:
        KeyError: the request carries no result of prepare, or one without its artifacts.
        OSError: an artifact is gone.
    """
    result = request.inputs[PREPARE.name]
    folder = local_path(result.artifact(DATA))
    written = request.inputs.get(SYNTHESIZE.name)
    synthesized = local_path(written.artifact(SYNTHESIZED)) if written else None
    train = TokenRows.load(folder / "train.safetensors")
    if synthesized is not None:
        train = train.followed_by(TokenRows.load(synthesized / "train.safetensors"))
    return Prepared(
        model=local_path(result.artifact(MODEL)),
        train=train,
        validation=TokenRows.load(folder / "validation.safetensors"),
        folder=folder,
        rejected={
            split: TokenRows.load(path)
            for split in SPLITS
            if (path := rejected_file(folder, split)).is_file()
        },
        synthesized=synthesized,
    )


def load_replay(request: StageRequest) -> TokenRows:
    """The replay rows: those that prepare read, or those that the base model made up.

    Raises:
        KeyError: the request carries no result of the stage that leaves them.
        OSError: the artifact is gone.
    """
    made_up = request.inputs.get(REHEARSE.name)
    if made_up is not None:
        return TokenRows.load(local_path(made_up.artifact(REPLAY)))
    folder = local_path(request.inputs[PREPARE.name].artifact(DATA))
    return TokenRows.load(folder / REPLAY_ROWS)


def rejected_file(folder: Path, split: Split) -> Path:
    """Where the rejected answers of a split lie, if its rows are preferences."""
    return folder / f"{split}.rejected.safetensors"


def write_row_records(records: Iterable[RowRecord], path: Path) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record.as_json(), ensure_ascii=False) + "\n")


def read_row_records(path: Path) -> list[RowRecord]:
    """Read what `write_row_records` wrote.

    Raises:
        OSError: there is no such file.
        ValueError: a line is no record.
    """
    records = []
    # NB: not splitlines(), which ends a line at U+2028, too: JSON leaves that unescaped in text.
    with path.open(encoding="utf-8") as file:
        for line in file:
            fields = json.loads(line)
            try:
                records.append(_record(fields))
            except TypeError as error:
                raise ValueError(f"not the record of a row: {error}") from error
    return records


def _record(fields: dict[str, Any]) -> RowRecord:
    messages = fields.pop("messages")
    return RowRecord(
        messages=None if messages is None else [_message(turn) for turn in messages],
        tools=tuple(fields.pop("tools", ())),
        origin=_origin(fields.pop("origin", {})),
        highlights=tuple(Highlight(**told) for told in fields.pop("highlights", ())),
        **fields,
    )


# What turns have by default; role and content have no default, and differ from what stands here.
_BY_DEFAULT: Final = {each.name: each.default for each in fields(Message)}


def _told(turn: Message) -> dict[str, Any]:
    # NB: not asdict() of all fields, which takes longer than to write the whole record.
    told = {
        name: value
        for name, usual in _BY_DEFAULT.items()
        if (value := getattr(turn, name)) != usual
    }
    return told | {"tool_calls": tuple(map(asdict, turn.tool_calls))} if turn.tool_calls else told


def _origin(told: dict[str, Any]) -> Origin:
    return Origin(**{**told, "examples": tuple(told.get("examples", ()))})


def _message(turn: dict[str, Any]) -> Message:
    calls = tuple(ToolCall(**call) for call in turn.get("tool_calls", ()))
    return Message(**{**turn, "tool_calls": calls})
