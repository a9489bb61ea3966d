"""Texts translated to another language and back by Apertium, which runs as a process.

Apertium is under the GPL: it is called, never linked.
"""

import logging
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.augmentation import BackTranslation
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError, TransientError
from tunesmith_trainer.augment.generator import Rewritten
from tunesmith_trainer.data.rows import Generator

_log = logging.getLogger(__name__)

_COMMAND: Final = "apertium"
_FIELD: Final = "dataset.augmentation.backTranslation"
# It translates some thousand words a second, and a call has a few thousand.
_TIMEOUT_S: Final = 300.0
# All but the end of a line, by which texts are taken apart.
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x85\u2028\u2029]")
_END: Final = re.compile(r"[.!?…]+$")


class BackTranslationGenerator:
    """Translates to `via` and back."""

    name: Generator = "backTranslation"
    has_variants = False

    def __init__(self, settings: BackTranslation) -> None:
        self._directions = (
            f"{settings.language}-{settings.via}",
            f"{settings.via}-{settings.language}",
        )
        self.min_similarity = settings.min_similarity
        _require_directions(self._directions)

    def require_language(self, texts: Sequence[str]) -> None:
        """It leaves words that it does not know as they are, and the texts with them."""

    def rewrite(self, texts: Sequence[str], *, variant: int) -> list[Rewritten | None]:
        """Each text translated back; there is one way to do so, and no other variant."""
        if variant:
            return [None] * len(texts)
        lines = [_CONTROL.sub(" ", text).split("\n") for text in texts]
        said = [line for of_text in lines for line in of_text if line.strip()]
        back = said
        for direction in self._directions:
            back = _translated(back, direction)
        if len(back) != len(said):
            _log.warning("%s: %d lines became %d; none is used", _FIELD, len(said), len(back))
            return [None] * len(texts)
        translated = iter(back)
        return [
            Rewritten(
                "\n".join(
                    _mended(next(translated), like=line) if line.strip() else "" for line in of_text
                )
            )
            for of_text in lines
        ]

    def spent(self) -> dict[str, JsonValue]:
        """Nothing: it runs here."""
        return {}


def _require_directions(directions: Sequence[str]) -> None:
    pair = f"apertium-{directions[0]}"
    if shutil.which(_COMMAND) is None:
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{_FIELD}: given {directions[0]}, and the command {_COMMAND} is not here; install "
            f"Debian's packages {_COMMAND} and {pair}, or that of the pair the other way round",
        )
    known = _run(["-l"], given="").split()
    missing = [direction for direction in directions if direction not in known]
    if missing:
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{_FIELD}: given {directions[0]} and back, and Apertium does not translate "
            f"{' nor '.join(missing)} here, but {', '.join(known) or 'nothing'}; install Debian's "
            f"package {pair}, or that of the pair the other way round",
        )


def _translated(lines: Sequence[str], direction: str) -> list[str]:
    # NB: a blank line between them. Over a plain end of line Apertium reads on, and moves words of
    # one text into the next. `-u`: unknown words without a mark.
    output = _run(["-u", "-f", "txt", direction], given="".join(f"{line}\n\n" for line in lines))
    return output.removesuffix("\n\n").split("\n\n")


def _run(arguments: Sequence[str], *, given: str) -> str:
    try:
        done = subprocess.run(
            [_COMMAND, *arguments],
            input=given.encode("utf-8", "replace"),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        # Its errors may quote what it was given.
        raise TransientError(
            Reason.ENVIRONMENT_MISSING,
            f"{_FIELD}: {_COMMAND} {arguments[-1]} ended with {type(error).__name__}; try it by "
            "hand, or leave backTranslation out",
        ) from None
    return done.stdout.decode("utf-8", "replace")


def _mended(line: str, *, like: str) -> str:
    """With one space between words, and the end and the first letter's case that it had.

    NB: of a line's last full stop Apertium takes itself to be the author, and removes it.
    """
    words = " ".join(line.split())
    end = _END.search(like.rstrip())
    if end and not _END.search(words):
        words += end[0]
    if like[:1].islower():
        return words[:1].lower() + words[1:]
    return words[:1].upper() + words[1:] if like[:1].isupper() else words
