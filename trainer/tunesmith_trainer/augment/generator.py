"""What `children` asks of each generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from tunesmith_trainer.data.rows import Generator


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text in other words; `prompt_digest` is of what a language model was asked for it."""

    text: str
    prompt_digest: str | None = None


class TextGenerator(Protocol):
    """Writes texts in other words."""

    @property
    def name(self) -> Generator:
        """As records and the data card have it."""
        ...

    @property
    def has_variants(self) -> bool:
        """Whether another variant of one text is another text."""
        ...

    @property
    def min_similarity(self) -> float:
        """How like its parent a text of it has to be, to be of use."""
        ...

    def require_language(self, texts: Sequence[str]) -> None:
        """Return if it may know the language of the texts.

        Raises:
            BadInputError: it surely does not.
        """
        ...

    def rewrite(self, texts: Sequence[str], *, variant: int) -> list[Rewritten | None]:
        """Each text in other words; None of those for which it has none.

        Raises:
            StageError: what it works with is gone, or refuses.
        """
        ...

    def spent(self) -> dict[str, JsonValue]:
        """What was paid for, for the data card; empty where nothing is."""
        ...
