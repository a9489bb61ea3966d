"""A fencing token in the output folder of a run: the newest start has it, and only it writes.

While KubeRay replaces a lost head, the workers of the old one train on. `worker` takes the token
before it reads a checkpoint, `checkpoints` asks for it before one counts (Kleppmann, *Designing
Data-Intensive Applications*, chapter 8).
"""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.reporter import write_atomically

_NEWEST: Final = ".newest-start"


class FencedError(Exception):
    """Another start of this training has begun: what this one does counts no more."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The place of one start among those that share `folder`."""

    folder: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def take(self) -> None:
        """Be the newest start from now on."""
        write_atomically(self.folder / _NEWEST, self.token)

    @property
    def is_lost(self) -> bool:
        """Whether a newer start has taken the token."""
        try:
            return (self.folder / _NEWEST).read_text(encoding="utf-8") != self.token
        except FileNotFoundError:  # nobody has taken it: somebody has cleared the folder
            return False

    def check(self) -> None:
        """Go on only as the newest start.

        Raises:
            FencedError: a newer one has begun.
        """
        if self.is_lost:
            raise FencedError("a newer start of this training has begun; this one ends")
