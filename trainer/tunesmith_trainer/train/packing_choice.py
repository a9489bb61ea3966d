"""Whether the rows of a run are packed: asked for or worth it, and proven on some of them.

`worker` asks before the first step. The answer is kept in the stage's output, so that a resumed run
goes on as it began.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import RowSampler, micro_batches
from tunesmith_trainer.train.packing import (
    Bins,
    bin_capacity,
    end_to_end,
    num_computed,
    one_per_line,
    packed_micro_batches,
)
from tunesmith_trainer.train.packing_proof import PackingProof, PackingTrial

ANSWER: Final = "packing.json"
# `auto` packs where this part of the computed tokens is spared: what the mask costs is less.
_LEAST_SPARED: Final = 0.1
# Whose padding is counted for it.
_COUNTED_STEPS: Final = 20
# Rows of the proof: the shortest of those that are drawn first, so that it takes seconds.
_DRAWN: Final = 16
_PROVEN: Final = 4


class PackingDecision(BaseModel):
    """What the run does; the shares are padding, of the tokens that the first steps compute.

    `proof` is None where nothing had to be proven.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    packing: Literal["bfd", "none"]
    padding_share: float
    padding_share_unpacked: float
    proof: PackingProof | None = None


def decide_packing(
    model: Any,
    *,
    config: TrainConfig,
    tokens: TokenRows,
    group: WorkerGroup,
    autocast: Callable[[], AbstractContextManager[object]],
    folder: Path,
) -> PackingDecision:
    """What `folder` keeps, or else a new decision, the same on every worker.

    NB: every worker has to call it, with the model as it was built.

    Raises:
        BadInputError: packing is asked for, and this model does not keep packed rows apart.
    """
    kept = _kept(folder / ANSWER)
    # One worker may see a file that another does not see yet; all of them decide, or none.
    (num_readers,) = group.all_reduce_sum(float(kept is not None))
    if kept is not None and num_readers == group.size:
        return kept
    decision = _decided(model, config=config, tokens=tokens, group=group, autocast=autocast)
    if group.is_first:
        write_atomically(folder / ANSWER, decision.model_dump_json(by_alias=True))
    return decision


def _decided(
    model: Any,
    *,
    config: TrainConfig,
    tokens: TokenRows,
    group: WorkerGroup,
    autocast: Callable[[], AbstractContextManager[object]],
) -> PackingDecision:
    asked = config.training.packing
    packed, unpacked = padding_shares(tokens.lengths, config=config)
    decision = PackingDecision(
        packing="none", padding_share=unpacked, padding_share_unpacked=unpacked
    )
    # Computed tokens are the useful ones over 1 - share.
    is_worth_it = (1 - unpacked) / (1 - packed) <= 1 - _LEAST_SPARED
    if config.training.objective == "dpo" or not (
        asked == "bfd" or (asked == "auto" and is_worth_it)
    ):
        return decision
    proof = PackingTrial(
        model=model,
        rows=_short_rows(tokens, config),
        precision=config.precision,
        autocast=autocast,
    ).run()
    (num_held,) = group.all_reduce_sum(float(proof.holds))
    if num_held == group.size:
        return PackingDecision(
            packing="bfd", padding_share=packed, padding_share_unpacked=unpacked, proof=proof
        )
    if asked == "bfd":
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.packing: {proof.in_words}; set it to none, or to auto",
        )
    return decision.model_copy(update={"proof": proof})


def padding_shares(lengths: NDArray[np.int64], *, config: TrainConfig) -> tuple[float, float]:
    """Padding of the first steps, packed and unpacked, as a part of the tokens computed."""
    batch = config.training.batch
    sampler = RowSampler(len(lengths), batch_size=batch.size, seed=config.training.seed)
    steps = [sampler.rows_of(step + 1) for step in range(min(config.num_steps, _COUNTED_STEPS))]
    useful = sum(int(lengths[rows].sum()) for rows in steps)
    capacity = bin_capacity(lengths, size=config.micro_batch_size)

    def end_to_end_in_capacity(of_pass: Sequence[int]) -> Bins:
        return end_to_end(of_pass, max_tokens=capacity)

    shares = []
    for cut, lay_out in (
        (packed_micro_batches, end_to_end_in_capacity),
        (micro_batches, one_per_line),
    ):
        passes = [
            [int(lengths[row]) for row in rows]
            for step in steps
            for rank in range(config.workers)
            for rows in cut(
                step,
                lengths=lengths,
                size=config.micro_batch_size,
                rank=rank,
                num_ranks=config.workers,
            )
        ]
        computed = sum(num_computed(of_pass, lay_out(of_pass)) for of_pass in passes)
        shares.append(round(1 - useful / computed, 4))
    return shares[0], shares[1]


def _kept(file: Path) -> PackingDecision | None:
    if not file.is_file():
        return None
    return PackingDecision.model_validate_json(file.read_text(encoding="utf-8"))


def _short_rows(tokens: TokenRows, config: TrainConfig) -> TokenRows:
    drawn = RowSampler(
        len(tokens), batch_size=min(len(tokens), _DRAWN), seed=config.training.seed
    ).rows_of(1)
    return tokens.subset(sorted(drawn, key=lambda row: int(tokens.lengths[row]))[:_PROVEN])
