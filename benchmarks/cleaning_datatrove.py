"""What datatrove's rules find in the rows of a folder, for `cleaning.py`, with datatrove's Python.

A row is a document of its turns, one a line. Rules that were made for pages of the web run as
they are, and once more without what only pages have; which rows they would leave out is all that is
told.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter


def main(folder: Path) -> None:
    """Print places of rows by rule, and the mended texts of the rows with mojibake."""
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [[turn["content"] for turn in json.loads(line)["messages"]] for line in lines]
    damaged = json.loads((folder / "damaged.json").read_text(encoding="utf-8"))
    texts = ["\n".join(turns) for turns in rows]
    ftfy = FTFYFormatter()
    found = {
        "nearDuplicates": _copies(texts, folder / "minhash", n_grams=5),
        "nearDuplicates, pairs of words": _copies(texts, folder / "minhash-2", n_grams=2),
        "personalData": _changed(texts, PIIFormatter()),
        "repair.mojibake": _changed(texts, ftfy),
        # The nearest that it has: n-grams that come again.
        "noise.echoAnswers": _refused(texts, GopherRepetitionFilter()),
        # Of its rules for lines those that tell boilerplate: cookies, policies, JavaScript.
        "noise.boilerplate": _changed_lines(texts),
    }
    wholes = (
        C4QualityFilter(),
        GopherQualityFilter(),
        GopherRepetitionFilter(),
        FineWebQualityFilter(),
    )
    told = {
        "found": found,
        "leftOut": {type(rule).__name__: _refused(texts, rule) for rule in wholes},
        "mended": [[ftfy.format(turn) for turn in turns] for turns in damaged],
    }
    print(json.dumps(told))


def _copies(texts: list[str], folder: Path, *, n_grams: int) -> list[int]:
    """Rows that its four steps leave out, with its own defaults but for the n-grams."""
    config = MinhashConfig(n_grams=n_grams)
    left: list[int] = []

    def documents(_: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        del rank, world_size
        yield from _documents(texts)

    def note(data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        del rank, world_size
        for document in data:
            left.append(int(document.id))
            yield document

    steps = (
        [documents, MinhashDedupSignature(str(folder / "signatures"), config=config)],
        [MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config)],
        [MinhashDedupCluster(str(folder / "buckets"), str(folder / "gone"), config=config)],
        [documents, MinhashDedupFilter(str(folder / "gone")), note],
    )
    for number, pipeline in enumerate(steps):
        tasks = config.num_buckets if number == 1 else 1
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=1, logging_dir=str(folder / f"logs{number}")
        ).run()
    return sorted(set(range(len(texts))) - set(left))


def _documents(texts: list[str]) -> list[Document]:
    return [Document(text=text, id=str(place)) for place, text in enumerate(texts)]


def _changed(texts: list[str], formatter: Any) -> list[int]:
    return [place for place, text in enumerate(texts) if formatter.format(text) != text]


def _changed_lines(texts: list[str]) -> list[int]:
    rule = C4QualityFilter(
        remove_citations=False,
        filter_no_terminal_punct=False,
        min_num_sentences=-1,
        min_words_per_line=-1,
        max_word_length=-1,
        filter_curly_bracket=False,
    )
    documents = _documents(texts)
    stays = [rule.filter(document) is True for document in documents]
    plain = ["\n".join(line.strip() for line in text.splitlines()).strip() for text in texts]
    return [
        place
        for place, document in enumerate(documents)
        if not stays[place] or document.text != plain[place]
    ]


def _refused(texts: list[str], rule: Any) -> list[int]:
    return [
        place
        for place, document in enumerate(_documents(texts))
        if rule.filter(document) is not True
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
