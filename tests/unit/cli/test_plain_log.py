"""What is printed of the logs of stages, as their libraries write them, into a pipe."""

import pytest

from tunesmith_cli.terminal.plain_log import PlainLog

# As Ray 2.60 writes it on a busy machine, shortened.
FALSE_ALARM = b"""\
\x1b[36m(TrainController pid=9)\x1b[0m Requesting resources: {'CPU': 1} * 1
\x1b[36m(TrainController pid=9)\x1b[0m Failed to send resource request for train-a3. If this only \
happens transiently during network partition or CPU being overloaded, it's safe to ignore this \
error. If this error persists, file a GitHub issue.
\x1b[36m(TrainController pid=9)\x1b[0m Traceback (most recent call last):
\x1b[36m(TrainController pid=9)\x1b[0m   File "client.py", line 58, in send_resource_request
\x1b[36m(TrainController pid=9)\x1b[0m     ray.get(
\x1b[36m(TrainController pid=9)\x1b[0m ray.exceptions.GetTimeoutError: Get timed out: not ready.
\x1b[36m(TrainController pid=9)\x1b[0m Attempting to start training worker group of size 1
"""


def test_a_traceback_that_calls_itself_harmless_is_left_out_and_what_follows_is_not() -> None:
    plain = PlainLog()

    assert plain.add(FALSE_ALARM) + plain.rest() == (
        b"(TrainController pid=9) Requesting resources: {'CPU': 1} * 1\n"
        b"(TrainController pid=9) Attempting to start training worker group of size 1\n"
    )


def test_a_traceback_of_the_stage_itself_stays() -> None:
    text = b'Traceback (most recent call last):\n  File "x.py", line 1\nKeyError: 3\n'

    assert PlainLog().add(text) == text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"\x1b[1;31mred\x1b[0m\x1b[K\n", b"red\n"),
        (b"\x1b]0;a title\x07text\n", b"text\n"),
        (b"a line of Windows\r\n", b"a line of Windows\n"),
        (b"\r  0%|  |\r 50%|# |\r100%|##|\n", b"100%|##|\n"),
        (b"no UTF-8: \xff\n", b"no UTF-8: \xff\n"),
        (b"no end", b"no end\n"),
        (b"\n", b"\n"),
        (b"", b""),
    ],
)
def test_a_line_is_shown_as_it_stands_at_last(written: bytes, shown: bytes) -> None:
    plain = PlainLog()

    assert plain.add(written) + plain.rest() == shown


def test_lines_may_come_in_pieces() -> None:
    plain = PlainLog()
    pieces = [bytes([byte]) for byte in FALSE_ALARM]

    whole = b"".join(map(plain.add, pieces))

    assert whole == PlainLog().add(FALSE_ALARM)
