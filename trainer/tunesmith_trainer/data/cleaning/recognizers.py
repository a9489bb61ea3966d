"""Secrets and personal data: found by form, proved by check digits where there are some.

What is reserved for examples (example.com, addresses of private networks, test cards are valid
cards) belongs to nobody and is passed over. Every expression is linear: rows may be endless.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Recognizer:
    """A form, and what else must hold of what has it."""

    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Span:
    """Where something stands, and what it is."""

    start: int
    end: int
    kind: str


# Lengths by country (ISO 13616), of those that most accounts are in.
_IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24,
    "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21,
    "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "RS": 22, "SA": 24,
    "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip
_EXAMPLES: Final = re.compile(
    r"@(?:.*\.)?(?:example(?:\.(?:com|org|net))?|test|invalid)$", re.IGNORECASE
)
_CARD: Final = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35\d{14})"
)


def _is_email(text: str) -> bool:
    return not _EXAMPLES.search(text)


def _is_iban(text: str) -> bool:
    iban = text.replace(" ", "").upper()
    if len(iban) != _IBAN_LENGTHS.get(iban[:2]):
        return False
    digits = "".join(str(int(char, 36)) for char in iban[4:] + iban[:4])
    return int(digits) % 97 == 1


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if not _CARD.fullmatch(digits) or len(set(digits)) < 3:  # noqa: PLR2004 - no row of zeros
        return False
    # Luhn: every second digit from the right counts twice, its cross sum at that.
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 9 <= len(digits) <= 15 and len(set(digits)) > 2  # noqa: PLR2004 - E.164


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_random(text: str) -> bool:
    """Whether a value looks drawn, not spoken: 3 bits a character, of letters and digits."""
    value = re.split(r"[:=]\s*[\"']?", text, maxsplit=1)[-1].strip("\"'")
    counts = Counter(value).values()
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    has_both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return has_both and bits >= 3  # noqa: PLR2004


_BEFORE, _BEHIND = r"(?<![\w.+-])", r"(?![\w-])"
_PERSONAL: Final[Mapping[str, tuple[_Recognizer, ...]]] = {
    "email": (
        _Recognizer(
            re.compile(
                r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
                r"(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9])"
            ),
            _is_email,
        ),
    ),
    "iban": (
        _Recognizer(
            re.compile(
                r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)",
                re.IGNORECASE,
            ),
            _is_iban,
        ),
    ),
    "creditCard": (_Recognizer(re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"), _is_card),),
    "ipAddress": (
        _Recognizer(
            re.compile(
                r"(?<![\w.])(?<!v )(?<!version )(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)",
                re.IGNORECASE,
            ),
            _is_address,
        ),
        _Recognizer(
            re.compile(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.IGNORECASE),
            _is_address,
        ),
    ),
    "phone": (
        # International (E.164), of North America, and national ones with their leading zero.
        _Recognizer(
            re.compile(
                r"(?<![\w+])(?:\+|(?<!\d )00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,4}\)?){2,6}(?!\w)"
            ),
            _is_phone,
        ),
        _Recognizer(
            re.compile(
                r"(?<![\w.+-])(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}"
                r"(?![\w-])"
            ),
        ),
        _Recognizer(
            re.compile(
                r"(?<![\w.,+/-])(?<!\d )0[1-9]\d{1,3}[ /-]"
                r"\d{3,4}(?:[ -]?\d{2,4}){1,2}(?![\w-]|\.\d)"
            ),
            _is_phone,
        ),
    ),
}
_SECRETS: Final = (
    _Recognizer(
        re.compile(
            _BEFORE + r"(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{36,255}"
            r"|github_pat_\w{22,255}|glpat-[\w-]{20,64}|xox[abeoprs]-[A-Za-z0-9-]{10,250}"
            r"|AIza[\w-]{35}|sk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9_-]{20,250}|hf_[A-Za-z0-9]{30,64}"
            r"|[sr]k_live_[A-Za-z0-9]{20,250}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,250}"
            r"|SG\.[\w-]{16,32}\.[\w-]{16,64}|dop_v1_[a-f0-9]{64}"
            r"|eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000})" + _BEHIND
        )
    ),
    _Recognizer(
        re.compile(
            r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----"
            r"[A-Za-z0-9+/=\s:,-]{0,10000}?(?:-----END (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----|\Z)"
        )
    ),
    _Recognizer(re.compile(r"(?<=://)[\w.%+-]{1,64}:[^\s:/@]{3,128}(?=@[\w-])")),
    _Recognizer(
        re.compile(
            r"(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?key|auth[_-]?token|token|passw(?:or)?d"
            r"|pwd)[\"']?\s{0,3}[:=]\s{0,3}[\"']?[A-Za-z0-9_\-/+.=!@#$%^&*]{12,250}[\"']?",
            re.IGNORECASE,
        ),
        _is_random,
    ),
)


def spans_of_secrets(text: str) -> list[Span]:
    """Keys, tokens and passwords."""
    return _spans(text, {"secret": _SECRETS})


def spans_of_personal_data(text: str, kinds: Collection[str]) -> list[Span]:
    """What belongs to a person, of the kinds that are asked for."""
    wanted = {kind: forms for kind, forms in _PERSONAL.items() if kind in kinds}
    return _spans(text, wanted)


def masked(text: str, spans: Collection[Span]) -> str:
    """The text with the kind of each in its place: [EMAIL], [CREDIT_CARD]."""
    for span in sorted(spans, key=lambda span: -span.start):
        word = re.sub(r"(?=[A-Z])", "_", span.kind).upper()
        text = f"{text[: span.start]}[{word}]{text[span.end :]}"
    return text


def _spans(text: str, recognizers: Mapping[str, tuple[_Recognizer, ...]]) -> list[Span]:
    """Those that are found first keep their place: an IBAN has no telephone number in it."""
    taken: list[Span] = []
    for span in _all_spans(text, recognizers):
        if all(span.end <= other.start or other.end <= span.start for other in taken):
            taken.append(span)
    return taken


def _all_spans(text: str, recognizers: Mapping[str, tuple[_Recognizer, ...]]) -> Iterator[Span]:
    for kind, forms in recognizers.items():
        for form in forms:
            for match in form.pattern.finditer(text):
                if form.holds(match[0]):
                    yield Span(match.start(), match.end(), kind)
