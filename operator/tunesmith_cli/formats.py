"""Numbers, times and sizes as people read them; the terminal and the report write them alike.

Every function takes SI or binary base units (seconds, bytes, parts of one) and returns text.
"""

import math
from datetime import UTC, datetime

from tunesmith_api.modeldeployment.limits import METRICS, Metric

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_WHOLE_FROM_S = 10
_THOUSAND = 1e3
_FULL_DIGITS = 1e15
# An e-value of a million and one of a billion say the same to a person.
_SHOWN_E = 1e6


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `2 min 10 s`, `1 h 05 min`, `2 d 3 h`."""
    # Rounded before it is compared, here and below: 9.96 is `10 s`, not `10.0 s`, and 59.6 is
    # `1 min 00 s`, not `60 s`.
    if seconds < _WHOLE_FROM_S and round(seconds, 1) < _WHOLE_FROM_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def age(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `2 d`: how long ago something was, in its largest unit."""
    whole = max(0, int(seconds))
    for unit, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if whole >= unit:
            return f"{whole // unit} {name}"
    return f"{whole} s"


def latency(seconds: float) -> str:
    """`0.42 ms`, `120 ms`, `1.25 s`: three significant digits, as latencies are compared."""
    if float(f"{seconds:.3g}") < 1:
        return f"{number(float(f'{1000 * seconds:.3g}'))} ms"
    return f"{number(float(f'{seconds:.3g}'))} s"


def size(num_bytes: float) -> str:
    """`512 bytes`, `12.3 MiB`, `1.2 GiB`."""
    amount, unit = float(num_bytes), 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{num_bytes:.0f} bytes"


def number(value: float) -> str:
    """Four significant digits, from a thousand on whole: `2.413`, `12,402`, `2e-05`."""
    # `.4g` would write 12,402 as 1.24e+04. From 1e15 on a float no longer holds every whole number.
    if _THOUSAND <= abs(value) < _FULL_DIGITS or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(part: float) -> str:
    """`99.2 %` of a part between 0 and 1."""
    return f"{100 * part:.1f} %"


def effect(metric: str, value: float | None) -> str:
    """Signed: points of a share, per cent of a ratio, or the loss in its own unit."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "-inf" if value < 0 else "inf"
    compared = METRICS[Metric(metric)].compared
    if compared == "rate":
        return f"{100 * value:+.2f} pt"
    if compared == "ratio":
        return f"{100 * value:+.1f} %"
    return f"{value:+.3f}"


def e_value(value: float) -> str:
    """Three significant digits, up to a million."""
    return f">{_SHOWN_E:.0e}" if value > _SHOWN_E else number(float(f"{value:.3g}"))


def counted(num: int, noun: str) -> str:
    """`1 row`, `1,050 rows`."""
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


def moment(when: datetime) -> str:
    """A time that reads the same everywhere: `2026-11-24 11:05 UTC`."""
    # Not in the reader's own zone: reports are sent to others, and a page has no script to convert.
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
