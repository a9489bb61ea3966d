"""What the rows look like in numbers: live traffic is compared with it, request by request.

Every answer of a row that is trained counts as one request, with the turns before it as its prompt,
just as a replica sees a chat. Nothing of the text is left but counts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from tunesmith_engine.drift.signals import measure, prompt_of
from tunesmith_engine.drift.sketches import Bins, Reference, Sketch
from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.prepare.tokenization import TokenizedRow

# A tenth of a millisecond each; more rows would tell nothing that a detector could use.
_MOST_ROWS: Final = 20_000


def reference_statistics(rows: Mapping[Split, Sequence[TokenizedRow]]) -> Reference:
    """The statistics of both splits; of very many rows, of some that are spread over all."""
    return Reference(training=_sketch(rows["train"]), validation=_sketch(rows["validation"]))


def _sketch(rows: Sequence[TokenizedRow]) -> Sketch:
    spread = rows[:: -(-len(rows) // _MOST_ROWS)]
    return Sketch.of(request for row in spread for request in _requests(row))


def _requests(row: TokenizedRow) -> Iterator[Bins]:
    """The bins of every answer in a row."""
    messages = row.row.messages
    if row.row.text is not None:
        # Nobody was asked: the whole text is what the model is to say.
        yield measure(None, row.row.text)
        return
    places = [at for at, message in enumerate(messages) if message.is_trained]
    lengths: Sequence[tuple[int | None, int | None]] = _lengths(row.tokens)
    if len(lengths) != len(places):
        # A template that lets two answers run into one.
        lengths = [(None, None)] * len(places)
    for at, (prompt_tokens, output_tokens) in zip(places, lengths, strict=True):
        answer = messages[at]
        yield measure(
            prompt_of([message.as_chat() for message in messages[:at]]),
            answer.content,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            tool_arguments=json.dumps(dict(answer.tool_calls[0].arguments), ensure_ascii=False)
            if answer.tool_calls
            else None,
        )


def _lengths(tokens: TokenRow) -> list[tuple[int, int]]:
    """Tokens of the prompt and of the answer, for every answer, as a server counts them.

    The prompt has all that stands before the answer, and the answer the token that ends it.
    """
    lengths, at = [], 0
    for is_trained, run in groupby(tokens.trained):
        length = len(list(run))
        if is_trained:
            lengths.append((at, length))
        at += length
    return lengths
