"""Tensors of which every worker holds a part, to files and back: PyTorch's distributed checkpoint.

`train_state` uses it for weights and moments of a sharded model. Each worker writes its own part
and reads it again; safetensors, without the pickle of torch's own format.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.distributed import ProcessGroup
from torch.distributed import checkpoint as distributed_checkpoint
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write this worker's part of `tensors` into `folder`, flushed to the disk.

    Returns once all workers have written.

    Raises:
        OSError: of whichever worker could not.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    _unwrapped(lambda: distributed_checkpoint.save(dict(tensors), storage_writer=writer))


def start_shards(
    folder: Path, tensors: dict[str, torch.Tensor], *, group: ProcessGroup
) -> Callable[[], None]:
    """Copy this worker's part of `tensors` to the host, and begin to write it.

    Return what waits until all workers have written, and raises what `write_shards` does. `group`
    carries the messages of the write, and nothing else at the same time.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    written = distributed_checkpoint.async_save(
        dict(tensors), storage_writer=writer, process_group=group
    )
    return lambda: _unwrapped(written.result)


def read_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Fill `tensors` in place with what `write_shards` wrote under their names.

    Raises:
        OSError: of whichever worker could not read.
    """
    reader = HuggingFaceStorageReader(str(folder))
    _unwrapped(lambda: distributed_checkpoint.load(dict(tensors), storage_reader=reader))


def _unwrapped(collective: Callable[[], object]) -> None:
    try:
        collective()
    except CheckpointException as error:
        # It gathers what every worker raised; a full disk is to be told as one.
        first, _trace = error.failures[min(error.failures)]
        raise first from error
