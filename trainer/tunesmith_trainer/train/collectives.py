"""What the workers say to each other: sums, and one worker's word for all.

`loop` reduces the gradients itself, once per step, in buckets whose layout never changes.
DistributedDataParallel lays its buckets out anew after the first step, so that a resumed run would
add the same numbers in another order, and its curve would differ in the last bits.

NB: each of these calls waits for all workers. One that leaves it out, or calls another in between,
leaves the others waiting until the time-out of gloo or NCCL; no branch around them may depend on
what only one worker knows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

# Numbers in one message: 64 MiB of fp32. A message for each tensor would mostly wait, and one for
# all of them would need a second copy of every gradient at once.
_BUCKET_NUMBERS = 16 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """This worker's number, how many there are, and the device it computes on.

    `is_sharded` says that they hold one model together, and every forward pass is a collective.
    """

    rank: int
    size: int
    device: torch.device
    is_sharded: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this worker writes for all."""
        return self.rank == 0

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Each value added up over all workers, in double precision."""
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            distributed.all_reduce(totals)
        return [float(total) for total in totals.cpu()]

    def all_reduce_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replace every gradient with its sum over all workers.

        A parameter that no row touched has a gradient of zero, on every worker alike.
        """
        # NB: zeros and not None, also for a worker alone. The buckets have to be of one size on all
        # workers, and AdamW passes over what has no gradient: neither decay nor moments would move.
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        # Of a sharded model the backward pass has summed them, each worker keeping its part.
        if self.size == 1 or self.is_sharded:
            return
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            distributed.all_reduce(flat)
            sizes = [gradient.numel() for gradient in bucket]
            for gradient, summed in zip(bucket, flat.split(sizes), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def equal_passes(self, own: list[T], *, filler: T) -> list[tuple[T, bool]]:
        """`own`, and whether it counts: with a sharded model filled up to the most of any worker.

        NB: a worker that is left out of a forward pass leaves the others waiting.
        """
        passes = [(item, True) for item in own]
        if not self.is_sharded:
            return passes
        most = torch.tensor([len(own)], dtype=torch.int64, device=self.device)
        distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        return passes + [(filler, False)] * (int(most.item()) - len(own))

    def broadcast(self, number: int) -> int:
        """The number that rank 0 has, on every worker."""
        told = torch.tensor([number], dtype=torch.int64, device=self.device)
        if self.size > 1:
            distributed.broadcast(told, src=0)
        return int(told.item())

    def all_gather(self, state: torch.Tensor) -> list[torch.Tensor]:
        """`state` of every worker, in order of rank; all have the same shape and type."""
        if self.size == 1:
            return [state]
        # By way of the device: NCCL moves nothing that lies in the processor's memory.
        states = [torch.empty_like(state, device=self.device) for _ in range(self.size)]
        distributed.all_gather(states, state.to(self.device))
        return [state.cpu() for state in states]


def _buckets(gradients: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    numbers = 0
    for gradient in gradients:
        bucket.append(gradient)
        numbers += gradient.numel()
        if numbers >= _BUCKET_NUMBERS:
            yield bucket
            bucket, numbers = [], 0
    if bucket:
        yield bucket
