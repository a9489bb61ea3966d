"""Samples of several replicas become one stream in order of arrival, on the rollout's own clock."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tunesmith_engine.rollout.merge import LONGEST_HOLD_S, Page, SampleMerger
from tunesmith_engine.rollout.samples import Arm


def entry(seq: int, *, age: float, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "ageSeconds": age, "error": False, **fields}


def page(*samples: dict[str, Any], at: float, **fields: Any) -> Page:
    given_: dict[str, Any] = {
        "replica": "a",
        "arm": Arm.STABLE,
        "instance": "1",
        "next": max((sample["seq"] for sample in samples), default=0),
        "dropped": 0,
        "watermark_seconds": 0.0,
    }
    return Page(samples=samples, read_at=at, **(given_ | fields))


def times(merger: SampleMerger) -> list[float]:
    return [sample.time_seconds for sample in merger.samples]


def test_ages_become_times_since_the_rollout_began() -> None:
    first = page(entry(1, age=4.0), entry(2, age=1.0), at=10.0)
    merger = SampleMerger().merge([first], replicas={"a"}, now=10.0)

    assert times(merger) == [6.0, 9.0]
    assert merger.after("a") == 2


def test_what_came_before_the_rollout_belongs_to_no_arm() -> None:
    merger = SampleMerger().merge([page(entry(1, age=11.0), at=10.0)], replicas={"a"}, now=10.0)

    assert times(merger) == []
    assert merger.after("a") == 1


def test_a_replica_with_a_request_under_way_holds_what_came_after_it_back() -> None:
    slow = page(at=10.0, watermark_seconds=6.0)
    quick = page(entry(1, age=8.0), entry(2, age=1.0), at=10.0, replica="b", arm=Arm.CANDIDATE)
    merger = SampleMerger().merge([slow, quick], replicas={"a", "b"}, now=10.0)

    assert times(merger) == [2.0]
    later = merger.merge([page(entry(1, age=7.0), at=11.0)], replicas={"a", "b"}, now=11.0)
    assert [(s.arm, s.time_seconds) for s in later.samples] == [
        (Arm.CANDIDATE, 2.0),
        (Arm.STABLE, 4.0),
        (Arm.CANDIDATE, 9.0),
    ]


def test_a_replica_that_is_silent_for_too_long_or_gone_holds_nobody_back() -> None:
    pages = [page(at=1.0), page(entry(1, age=0.0), at=5.0, replica="b")]
    merger = SampleMerger().merge(pages, replicas={"a", "b"}, now=5.0)

    assert times(merger) == []
    assert times(merger.merge([], replicas={"b"}, now=6.0)) == [5.0]
    assert times(merger.merge([], replicas={"a", "b"}, now=5.1 + LONGEST_HOLD_S)) == [5.0]


def test_a_process_that_was_started_anew_is_read_from_its_beginning() -> None:
    merger = SampleMerger().merge([page(entry(7, age=0.0), at=5.0)], replicas={"a"}, now=5.0)
    # Asked behind 7, the new process has already forgotten nothing, but gives only what follows 7.
    restarted = page(entry(8, age=0.5), at=9.0, instance="2")
    merger = merger.merge([restarted], replicas={"a"}, now=9.0)

    assert merger.after("a") == 0
    whole = page(entry(1, age=3.0), entry(8, age=1.5), at=10.0, instance="2")
    merger = merger.merge([whole], replicas={"a"}, now=10.0)
    assert times(merger) == [5.0, 7.0, 8.5]


def test_what_a_ring_has_lost_and_what_nobody_can_read_is_counted() -> None:
    strange = entry(3, age=1.0, somethingNew=1)
    merger = SampleMerger().merge([page(strange, at=5.0, dropped=2)], replicas={"a"}, now=5.0)

    assert merger.num_lost == 3
    assert merger.samples == ()


def test_what_comes_when_there_is_no_room_is_counted_and_not_kept() -> None:
    first = page(entry(1, age=4.0), entry(2, age=3.0), entry(3, age=2.0), at=5.0)
    merger = SampleMerger(capacity=2).merge([first], replicas={"a"}, now=5.0)
    merger = merger.merge([page(entry(4, age=0.0), at=6.0)], replicas={"a"}, now=6.0)

    assert times(merger) == [1.0, 2.0]
    assert merger.num_lost == 2


@given(st.lists(st.lists(st.floats(0, 30), max_size=8), min_size=1, max_size=4), st.data())
def test_whatever_is_read_when_the_stream_is_sorted_and_nothing_comes_twice(
    ages: list[list[float]], data: st.DataObject
) -> None:
    names = [str(number) for number in range(len(ages))]
    merger, now = SampleMerger(), 40.0
    arrivals = {
        name: sorted(now - age for age in own) for name, own in zip(names, ages, strict=True)
    }
    while any(merger.after(name) < len(arrivals[name]) for name in names):
        now += data.draw(st.floats(0.1, 5))
        pages = []
        for name in names:
            after = merger.after(name)
            count = data.draw(st.integers(1, 8))
            given_ = list(enumerate(arrivals[name], start=1))[after : after + count]
            rest = arrivals[name][after + count :]
            samples = [entry(seq, age=now - time) for seq, time in given_]
            watermark = now - rest[0] if rest else 0.0
            new = {"next": after + len(samples), "watermark_seconds": watermark}
            pages.append(page(*samples, at=now, replica=name, **new))
        merger = merger.merge(pages, replicas=names, now=now)

    assert times(merger) == sorted(times(merger))
    assert len(merger.samples) + len(merger.held) == sum(map(len, ages))
