"""Samples come in order of arrival, once, and not without bound."""

from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.replica.sample_ring import SamplePage, SampleRing


def add(ring: SampleRing, arrived: float, *, ended: float | None = None) -> Measurement:
    measurement = Measurement(arrived=arrived, ended=ended)
    ring.add(measurement)
    return measurement


def numbers(page: SamplePage) -> list[int]:
    return [sample["seq"] for sample in page.samples]


def test_nothing_is_given_beyond_the_oldest_request_under_way() -> None:
    ring = SampleRing()
    add(ring, 1.0, ended=2.0)
    slow = add(ring, 2.0)
    add(ring, 3.0, ended=4.0)

    before = ring.after(0, limit=10, now=10.0)
    slow.end(now=11.0, is_whole=True, is_disconnected=False)
    then = ring.after(before.next, limit=10, now=12.0)

    assert (numbers(before), before.watermark_seconds) == ([1], 8.0)
    assert (numbers(then), then.watermark_seconds) == ([2, 3], 0.0)


def test_a_request_that_hangs_holds_others_back_for_a_minute() -> None:
    ring = SampleRing()
    add(ring, 0.0)
    add(ring, 1.0, ended=2.0)

    assert numbers(ring.after(0, limit=10, now=60.0)) == []
    page = ring.after(0, limit=10, now=60.5)
    assert numbers(page) == [1, 2]
    assert page.samples[0]["ttftSeconds"] == 60.5


def test_a_reader_goes_on_where_it_was() -> None:
    ring = SampleRing()
    for arrived in range(5):
        add(ring, float(arrived), ended=arrived + 0.5)

    first = ring.after(0, limit=2, now=10.0)
    second = ring.after(first.next, limit=2, now=10.0)
    third = ring.after(second.next, limit=2, now=10.0)
    none = ring.after(third.next, limit=2, now=10.0)

    assert [numbers(page) for page in (first, second, third, none)] == [[1, 2], [3, 4], [5], []]
    # The third request came 8 s ago, and all before it were given.
    assert first.watermark_seconds == 8.0
    assert none.next == 5


def test_what_no_longer_fits_is_counted() -> None:
    ring = SampleRing(capacity=3)
    for arrived in range(10):
        add(ring, float(arrived), ended=arrived + 0.5)

    page = ring.after(4, limit=10, now=20.0)

    assert (numbers(page), page.dropped) == ([8, 9, 10], 3)
    assert ring.after(page.next, limit=10, now=20.0).dropped == 0


def test_requests_of_nobody_leave_no_sample() -> None:
    ring = SampleRing()
    add(ring, 0.0, ended=1.0)
    add(ring, 1.0, ended=2.0)
    ring.forget(1)

    assert numbers(ring.after(0, limit=10, now=3.0)) == [2]
