"""Replay rows have exactly their share, and the job's own rows come as they would without them."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from tunesmith_trainer.train.dataloader import ReplaySampler, RowSampler


@given(
    ratio=st.floats(0.01, 0.9),
    size=st.integers(1, 32),
    num_rows=st.integers(1, 50),
    num_replay=st.integers(1, 50),
    steps=st.integers(1, 40),
)
def test_shares_and_orders(
    ratio: float, size: int, num_rows: int, num_replay: int, steps: int
) -> None:
    mixed = ReplaySampler(num_rows, num_replay=num_replay, ratio=ratio, batch_size=size, seed=3)

    batches = [mixed.rows_of(step) for step in range(1, steps + 1)]
    drawn = [row for batch in batches for row in batch]
    own = [row for row in drawn if row < num_rows]

    assert all(len(batch) == size for batch in batches)
    assert len(drawn) - len(own) == int(ratio * steps * size)
    assert max(drawn) < num_rows + num_replay
    alone = RowSampler(num_rows, batch_size=1, seed=3)
    assert own == [alone.rows_of(step)[0] for step in islice(range(1, 10**6), len(own))]
    assert mixed.epoch_after(steps) == len(own) / num_rows


def test_a_step_is_the_same_whenever_it_is_asked_for() -> None:
    one, other = (ReplaySampler(7, num_replay=5, ratio=0.3, batch_size=4, seed=0) for _ in range(2))
    rows = [one.rows_of(step) for step in range(1, 9)]

    assert other.rows_of(8) == rows[7]
