"""What the workers say to each other: sums, and one worker's word for all.

`loop` reduces the gradients itself, once per step, in buckets whose layout never changes.
DistributedDataParallel lays its buckets out anew after the first step, so that a resumed run would
add the same numbers in another order, and its curve would differ in the last bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed

_BUCKET_NUMBERS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ranks:
    """This worker's number, how many there are, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this worker writes for all."""
        return self.rank == 0

    def sum_of(self, *values: float) -> list[float]:
        """Each value added up over all workers, in double precision."""
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            distributed.all_reduce(totals)
        return [float(each) for each in totals.cpu()]

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replace every gradient with its sum over all workers.

        A parameter that no row touched has a gradient of zero, on every worker alike.
        """
        gradients = [_gradient_of(each) for each in parameters]
        if self.size == 1:
            return
        for bucket in _buckets(gradients):
            flat = torch.cat([each.reshape(-1) for each in bucket])
            distributed.all_reduce(flat)
            for gradient, summed in zip(
                bucket, flat.split([each.numel() for each in bucket]), strict=True
            ):
                gradient.copy_(summed.view_as(gradient))

    def first_says(self, number: int) -> int:
        """The number that rank 0 has, on every worker."""
        told = torch.tensor([number], dtype=torch.int64, device=self.device)
        if self.size > 1:
            distributed.broadcast(told, src=0)
        return int(told.item())

    def gathered(self, state: torch.Tensor) -> list[torch.Tensor]:
        """`state` of every worker, in order of rank; all have the same shape and type."""
        if self.size == 1:
            return [state]
        found = [torch.empty_like(state, device=self.device) for _ in range(self.size)]
        distributed.all_gather(found, state.to(self.device))
        return [each.cpu() for each in found]


def _gradient_of(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


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
