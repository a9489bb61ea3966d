"""Checkpoints on their way to the disk while training goes on: one at a time, the next one waits.

`train_state` hands over what is to be written, by then a copy in the host's memory. As CheckFreq
does (Mohan et al., FAST 2021), a step waits for the copy alone, not for the disk.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tunesmith_trainer.train.checkpoints import Tensors


class CheckpointWriter:
    """Writes in a thread of its own or, if not `asynchronous`, at once.

    NB: one that fails says so at the next call of any of these, whichever comes first.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        # One thread: two at once would take the memory of two copies, and could end out of order.
        self._thread = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._pending: Future[None] | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Run `write`, which changes nothing but files; `wait` comes before the copy is taken."""
        self.wait()
        if self._thread is None:
            write()
        else:
            self._pending = self._thread.submit(write)

    def wait(self) -> None:
        """Return when nothing is being written.

        Raises:
            OSError: what was to be written could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def raise_failed(self) -> None:
        """Go on at once, unless what was to be written has failed already.

        Raises:
            OSError: what was to be written could not be.
        """
        if self._pending is not None and self._pending.done():
            self.wait()


def host_copy(tensors: Tensors) -> Tensors:
    """The tensors as they are now, in the host's memory."""
    # NB: waits for the device. A copy that only was begun could take in the next step's numbers.
    return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
