"""The queue's bookkeeping, with the time given, and how it wakes its workers."""

import asyncio

from tunesmith_operator.controller.work_queue import (
    MAX_DELAY_S,
    PATIENCE_S,
    Backlog,
    Key,
    WorkQueue,
)

ONE, TWO, THREE = (Key("FineTuneJob", "ns", name) for name in ("one", "two", "three"))


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


def test_what_is_urgent_comes_first_but_for_keys_that_have_waited_long() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.add(TWO, now=0)
    backlog.add(THREE, now=1, is_urgent=True)

    assert backlog.take(now=2) == THREE
    backlog.add(Key("FineTuneJob", "ns", "another"), now=3, is_urgent=True)
    assert backlog.take(now=PATIENCE_S) == ONE


def test_a_key_in_the_line_that_becomes_urgent_is_handed_out_once_and_first() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.add(TWO, now=0)
    backlog.add(TWO, now=0, is_urgent=True)
    backlog.add(TWO, now=0)

    assert [backlog.take(now=1) for _ in range(3)] == [TWO, ONE, None]


def test_urgent_news_of_a_key_that_a_worker_has_is_urgent_afterwards() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.take(now=0)
    backlog.add(TWO, now=1)
    backlog.add(ONE, now=1, is_urgent=True)
    backlog.add(ONE, now=2)
    backlog.done(ONE, now=3)

    assert backlog.take(now=3) == ONE


def test_a_delay_that_was_shortened_counts_once() -> None:
    backlog = Backlog()
    backlog.add_at(ONE, at=10)
    backlog.add_at(ONE, at=5)
    backlog.add_at(ONE, at=20)

    assert [backlog.take(now=5), backlog.take(now=30), backlog.next_time()] == [ONE, None, None]


def test_the_line_and_the_work_are_timed() -> None:
    waits: list[tuple[Key, float]] = []
    backlog = Backlog(waited=lambda key, seconds: waits.append((key, seconds)))
    backlog.add(ONE, now=0)
    backlog.add(TWO, now=5)
    backlog.take(now=10)

    assert backlog.longest_wait(now=12) == 7
    assert backlog.work_times(now=12) == [2]
    assert waits == [(ONE, 10)]


def test_keys_of_two_kinds_are_told_apart_and_measured_by_kind() -> None:
    backlog = Backlog()
    other = ONE._replace(kind="ModelVersion")
    for key in (ONE, other, TWO):
        backlog.add(key, now=0)
    first = backlog.take(now=1)

    assert (first, str(first)) == (ONE, "FineTuneJob ns/one")
    assert [backlog.depth(kind) for kind in ("FineTuneJob", "ModelVersion")] == [1, 1]
    assert backlog.work_times(now=3, kind="FineTuneJob") == [2]
    assert backlog.work_times(now=3, kind="ModelVersion") == []


def test_what_is_added_while_a_look_fails_waits_for_the_delay_of_the_failure() -> None:
    backlog = Backlog()
    backlog.add(ONE, now=0)
    backlog.take(now=0)
    backlog.add(ONE, now=0, is_urgent=True)
    delay = backlog.failed(ONE, now=0)

    assert backlog.take(now=0) is None
    assert backlog.take(now=delay) == ONE


def test_every_key_wakes_a_worker_when_it_is_due_although_the_others_are_busy() -> None:
    async def taken() -> list[Key]:
        queue, found = WorkQueue(), list[Key]()

        async def work() -> None:
            while True:
                found.append(await queue.take())
                await asyncio.sleep(60)  # no worker ever comes back

        workers = [asyncio.create_task(work()) for _ in range(4)]
        await asyncio.sleep(0)
        queue.add(ONE, after_s=0.01)
        queue.add(TWO, after_s=0.02)
        queue.add(THREE)
        await asyncio.sleep(0.1)
        for each in workers:
            each.cancel()
        return found

    assert asyncio.run(taken()) == [THREE, ONE, TWO]


def test_a_worker_that_was_cancelled_takes_nobodys_turn() -> None:
    async def taken() -> Key:
        queue = WorkQueue()
        gone, there = (asyncio.create_task(queue.take()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        queue.add(ONE)
        return await asyncio.wait_for(there, timeout=5)

    assert asyncio.run(taken()) == ONE
