"""The order of the data is a function of the seed and the step, and every rank gets its share."""

import numpy as np

from tunesmith_trainer.train.dataloader import RowSampler, micro_batches


def test_every_epoch_reads_every_row_once_and_in_another_order() -> None:
    order = RowSampler(10, batch_size=5, seed=3)
    read = [row for step in range(1, 5) for row in order.rows_of(step)]

    assert sorted(read[:10]) == sorted(read[10:]) == list(range(10))
    assert read[:10] != read[10:]


def test_a_step_reads_the_same_rows_whoever_asks_and_when() -> None:
    steady = RowSampler(7, batch_size=4, seed=0)
    rows = [steady.rows_of(step) for step in range(1, 9)]

    assert RowSampler(7, batch_size=4, seed=0).rows_of(8) == rows[7]
    assert steady.rows_of(2) == rows[1]
    assert RowSampler(7, batch_size=4, seed=1).rows_of(8) != rows[7]


def test_a_batch_larger_than_the_data_reads_rows_again() -> None:
    rows = RowSampler(3, batch_size=7, seed=0).rows_of(1)

    assert len(rows) == 7
    assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2]


def test_epochs_are_counted_in_rows() -> None:
    assert RowSampler(8, batch_size=4, seed=0).epoch_after(3) == 1.5


def test_ranks_share_a_batch_without_loss_and_with_about_equal_lengths() -> None:
    lengths = np.arange(100, 112)
    rows = list(range(12))
    shares = [
        micro_batches(rows, lengths=lengths, size=2, rank=rank, num_ranks=2) for rank in (0, 1)
    ]

    dealt = [[row for batch in share for row in batch] for share in shares]
    assert sorted(dealt[0] + dealt[1]) == rows
    assert abs(int(lengths[dealt[0]].sum()) - int(lengths[dealt[1]].sum())) <= 6
    assert [len(batch) for batch in shares[0]] == [2, 2, 2]
    assert shares[0][0] == [11, 9]
