"""The queue's bookkeeping, with the time given."""

from tunesmith_operator.work_queue import MAX_DELAY_S, Backlog

ONE, TWO = ("ns", "one"), ("ns", "two")


def test_a_key_that_is_added_twice_is_handed_out_once() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.add(ONE, now=1)

    assert [backlog.take(now=2), backlog.take(now=2)] == [ONE, None]


def test_a_key_is_never_with_two_workers_and_comes_again_after_the_first() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.take(now=0)
    backlog.add(ONE, now=1)
    while_busy = backlog.take(now=1)
    backlog.done(ONE, now=2)

    assert while_busy is None
    assert backlog.take(now=2) == ONE


def test_failures_of_a_key_back_off_twice_as_long_each_time_and_alone() -> None:
    backlog = Backlog()
    delays = []
    now = 0.0
    for _ in range(30):
        backlog.add(ONE, now=now)
        assert backlog.take(now=now) == ONE
        delays.append(backlog.failed(ONE, now=now))
        now += 1000
    backlog.add(TWO, now=now)

    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[-1] == MAX_DELAY_S


def test_success_forgets_the_failures() -> None:
    backlog = Backlog()
    for _ in range(5):
        backlog.add(ONE, now=0)
        backlog.take(now=0)
        backlog.failed(ONE, now=0)
    backlog.add(ONE, now=0)
    backlog.take(now=0)
    backlog.done(ONE, now=0)
    backlog.add(ONE, now=0)
    backlog.take(now=0)

    assert backlog.failed(ONE, now=0) == 0.005


def test_a_delayed_key_comes_when_it_is_due_and_not_before() -> None:
    backlog = Backlog()
    backlog.add_at(ONE, at=10)

    assert backlog.take(now=9) is None
    assert backlog.next_time() == 10
    assert backlog.take(now=10) == ONE


def test_the_line_and_the_work_are_timed() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.add(TWO, now=5)
    backlog.take(now=10)

    assert backlog.longest_wait(now=12) == 7
    assert backlog.work_times(now=12) == [2]
