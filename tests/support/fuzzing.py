"""Bytes that nobody has seen yet, from ones that are well formed, for parsers of foreign input.

Each parser may refuse in its own way; whatever else it raises is a fault, and so is what takes
long or hangs. `make test` tries the same few of each every time, `make test-long` many others, and
hypothesis prints the input of a failure as small as it gets.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SHORT: Final = 60
LONG: Final = 20_000
# Generous: the machine may be busy. What hangs takes for ever.
_LONGEST_S: Final = 20.0

Check = Callable[[bytes], Any]


@st.composite
def broken(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A sample with some of its parts cut, repeated, exchanged, or replaced by other bytes."""
    content = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        piece = content[start:end]
        new = draw(
            st.one_of(
                st.binary(max_size=12),
                st.just(b""),
                st.sampled_from([b"\x00", b"\xff" * 8, b"\xed\xa0\x80", b"[" * 3000, b"{" * 3000]),
                st.sampled_from(
                    [b"9" * 5000, b"9" * 400, b"-1", b"1e999", b"NaN", b"null", b'"\\ud800"']
                ),
                st.sampled_from([b"&a [*a]", b"<<: *a", b"!!python/object:os.system {}", b"\r"]),
                st.just(piece * 3),
            )
        )
        content = content[:start] + new + content[end:]
    return content


def fuzzing_settings(examples: int) -> settings:
    """The same few inputs every time where they are few, and others each time where not."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == SHORT,
        suppress_health_check=list(HealthCheck),
        # Explaining a failure traces every line, which takes longer than is allowed here.
        phases=[each for each in Phase if each is not Phase.explain],
    )


def fuzz(
    check: Check,
    samples: Sequence[bytes],
    *,
    refusals: tuple[type[Exception], ...],
    examples: int = SHORT,
) -> None:
    """Hold `check` against many inputs; it may return anything, or refuse."""

    @fuzzing_settings(examples)
    @given(broken(samples))
    def hold(content: bytes) -> None:
        started = time.monotonic()
        with suppress(*refusals):
            check(content)
        assert time.monotonic() - started < _LONGEST_S

    hold()
