"""A fencing token of a run: the newest start has it, and only it writes.

While KubeRay replaces a lost head, the workers of the old one train on. `worker` takes the token
before it reads a checkpoint, `checkpoints` or, of workers that share no folder,
`remote_checkpoints` asks for it before one counts (Kleppmann, *Designing Data-Intensive
Applications*, chapter 8).
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.remote_workspace import StageWorkspace
from tunesmith_engine.stages.reporter import write_atomically

_NEWEST: Final = ".newest-start"


class FencedError(Exception):
    """Another start of this training has begun: what this one does counts no more."""


@dataclass(frozen=True, slots=True)
class Fence:
    """One start of a run; `read` gives whose token is kept, None if nobody's is, `write` keeps one.

    Every method may raise what these do.
    """

    read: Callable[[], str | None]
    write: Callable[[str], object]
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def take(self) -> None:
        """Be the newest start from now on."""
        self.write(self.token)

    def check(self) -> None:
        """Go on only as the newest start, or where somebody has cleared the place.

        Raises:
            FencedError: a newer one has begun.
        """
        if self.read() not in {self.token, None}:
            raise FencedError("a newer start of this training has begun; this one ends")


def fence_of(workspace: StageWorkspace | None, *, output: Path) -> Fence:
    """A new start; the token is in the `output` folder, or the store of workers that share none."""
    if workspace is None:
        path = output / _NEWEST
        return Fence(partial(_text_of, path), partial(write_atomically, path))
    place = f"{workspace.home}/{_NEWEST}"
    store = workspace.store
    return Fence(partial(store.read_text, place), partial(store.write_text, place))


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
