"""The fenced blocks of pages in Markdown."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A block in a list is indented like the list's text.
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<head>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
END_OF_COMMAND = {"|", ">", ">>", "<", "&&", ";", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the page and line where it starts, its language and marks, its text."""

    page: Path
    line: int
    head: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def language(self) -> str:
        return self.head.split()[0] if self.head.split() else ""

    def commands(self) -> Iterator[list[str]]:
        """The arguments of every `$ tunesmith …` line."""
        for line in self.text.splitlines():
            if line.startswith("$ tunesmith "):
                words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|<>&;")
                words.whitespace_split = True
                yield _up_to_operator(list(words))[1:]


def _up_to_operator(words: list[str]) -> list[str]:
    ends = [index for index, word in enumerate(words) if word in END_OF_COMMAND]
    return words[: ends[0]] if ends else words


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        text_of_block = textwrap.dedent(fence["text"])
        yield Block(page=page, line=line, head=fence["head"].strip(), text=text_of_block)
