"""2,000 real conversations with faults of known places, and look-alikes that are none.

Of each fault some are planted in rows that have no other, by one seed. What a detector finds
elsewhere counts as false, though a real row may well have a fault of its own.
"""

import random
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chitchat import conversations

NUM_ROWS: Final = 2000
NUM_HELD_OUT: Final = 200
NUM_PLANTED: Final = 100
_TURNS: Final = 6

Turns = list[str]


@dataclass(slots=True)
class Planted:
    """The rows, the held-out ones, and by rule the places of rows that have that fault.

    `damaged` holds for each row with mojibake what it was before.
    """

    rows: list[Turns]
    held_out: list[Turns]
    places: dict[str, set[int]] = field(default_factory=dict)
    damaged: dict[int, Turns] = field(default_factory=dict)


def planted(packages: Path, *, seed: int) -> Planted:
    """All of it, the same for one seed."""
    rng = random.Random(seed)
    long_enough = [turns[:_TURNS] for turns in conversations(packages) if len(turns) >= _TURNS]
    chosen = rng.sample(long_enough, NUM_ROWS + NUM_HELD_OUT)
    data = Planted(rows=chosen[:NUM_ROWS], held_out=chosen[NUM_ROWS:])
    free = rng.sample(range(NUM_ROWS), NUM_ROWS)
    words = [word for turns in data.rows for turn in turns for word in turn.split()]

    def take() -> list[int]:
        taken = free[-NUM_PLANTED:]
        del free[-NUM_PLANTED:]
        return taken

    _plant_mojibake(data, take(), take(), rng)
    changes: dict[str, tuple[Callable[[random.Random], str], Callable[[random.Random], str]]] = {
        "personalData": (_personal, _nearly_personal),
        "secrets": (_secret, _nearly_secret),
    }
    for rule, (real, alike) in changes.items():
        data.places[rule] = set(take())
        for place in sorted(data.places[rule]):
            data.rows[place] = _said(data.rows[place], real(rng), rng)
        for place in take():
            data.rows[place] = _said(data.rows[place], alike(rng), rng)
    _plant_noise(data, take, rng)
    _plant_contamination(data, take(), words, rng)
    _plant_copies(data, take(), take(), words, rng)
    return data


def edited(turns: Turns, words: list[str], rng: random.Random, *, share: float = 0.1) -> Turns:
    """Each word is another one, gone, or followed by one more, with the probability `share`."""

    def changed(word: str) -> list[str]:
        if rng.random() >= share:
            return [word]
        return rng.choice(([rng.choice(words)], [], [word, rng.choice(words)]))

    return [" ".join(new for word in turn.split() for new in changed(word)) for turn in turns]


def _said(turns: Turns, words: str, rng: random.Random) -> Turns:
    """The same with something said more at the end of a turn."""
    place = rng.randrange(len(turns))
    return [*turns[:place], f"{turns[place]} {words}", *turns[place + 1 :]]


def _plant_mojibake(data: Planted, places: list[int], alike: list[int], rng: random.Random) -> None:
    """Typographic punctuation and accents, as telephones write them; damaged in half of them."""
    said = ("it’s a café…", "“déjà vu” – really", "naïve 🙂", "São Paulo costs 5 €", "привет, друг")
    for place in (*places, *alike):
        turns = [turn.replace("'", "’") for turn in data.rows[place]]
        data.rows[place] = _said(turns, rng.choice(said), rng)
    for place in alike[::10]:
        data.rows[place] = _said(data.rows[place], "«CAFÉ» et voilà”… ¿Qué?", rng)
    for place in places:
        data.damaged[place] = data.rows[place]
        codec = rng.choice(("cp1252", "latin-1"))
        data.rows[place] = [_misread(turn, codec) for turn in data.rows[place]]
    data.places["repair.mojibake"] = set(places)


def _misread(text: str, codec: str) -> str:
    # Five bytes are none of Windows-1252's; programs read them as Latin-1 does.
    raw = text.encode()
    return "".join(bytes([byte]).decode(codec, errors="ignore") or chr(byte) for byte in raw)


def _personal(rng: random.Random) -> str:
    name = "".join(rng.choices(string.ascii_lowercase, k=7))
    digits = "".join(rng.choices("123456789", k=12))
    area = f"{rng.randint(201, 989)}"
    return rng.choice(
        (
            f"mail me: {name}.{name[:3]}@{name[::-1]}.{rng.choice(('com', 'co.uk', 'de'))}",
            f"my address is {name}+{digits[:2]}@gmail.com.",
            f"call {area}-{rng.randint(201, 989)}-{digits[:4]}",
            f"call ({area}) {rng.randint(201, 989)}-{digits[:4]} tonight",
            f"my number is +49 {digits[:3]} {digits[3:10]}",
            f"whatsapp +44 7{digits[:3]} {digits[3:9]}",
            f"ruf an: 0{digits[:3]} {digits[3:10]}",
            f"the card is {_card(rng)}, ok?",
            f"send it to {_iban(rng)}.",
            f"ssh to {rng.randint(20, 90)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.7",
        )
    )


def _card(rng: random.Random) -> str:
    digits = [4, *(rng.randint(0, 9) for _ in range(14))]
    total = sum(sum(divmod(2 * digit, 10)) for digit in digits[::2]) + sum(digits[1::2])
    number = "".join(map(str, [*digits, -total % 10]))
    parts = [number[place : place + 4] for place in range(0, 16, 4)]
    return rng.choice(("", " ", "-")).join(parts)


def _iban(rng: random.Random) -> str:
    account = "".join(rng.choices(string.digits, k=18))
    check = 98 - int(account + "131400") % 97  # DE is 13 14
    iban = f"DE{check:02}{account}"
    parts = [iban[place : place + 4] for place in range(0, len(iban), 4)]
    return rng.choice(("", " ")).join(parts)


def _nearly_personal(rng: random.Random) -> str:
    digits = "".join(rng.choices("123456789", k=16))
    wrong = _card(rng)
    wrong = wrong[:-1] + str((int(wrong[-1]) + 1) % 10)
    return rng.choice(
        (
            f"the order is {digits}",
            f"the card is {wrong}",
            "write to you@example.com",
            "it is at 192.168.0.17 or 127.0.0.1",
            f"version 2.{digits[0]}.{digits[1]}.{digits[2]} is out",
            f"on 2019-0{digits[0]}-1{digits[1]} at 12:3{digits[2]}:4{digits[3]}",
            f"it costs {digits[:3]}.{digits[3:5]} or {digits[:2]},{digits[2:5]},{digits[5:8]}",
            f"pages {digits[:3]}-{digits[3:6]} and 555 1{digits[0]}",
            f"@{digits[:3]} on twitter",
            f"DE{digits}1234 is no account",
        )
    )


def _secret(rng: random.Random) -> str:
    letters = string.ascii_letters + string.digits

    def drawn(number: int, of: str = letters) -> str:
        return "".join(rng.choices(of, k=number))

    upper = string.ascii_uppercase + string.digits
    return rng.choice(
        (
            f"AKIA{drawn(16, upper)}",
            f"use ghp_{drawn(36)}",
            f"sk-proj-{drawn(48)} works",
            f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
            f"hf_{drawn(34, string.ascii_letters)}",
            f"AIza{drawn(35)}",
            f"postgres://admin:{drawn(14)}@db.corp.net/x",
            f'api_key = "{drawn(32)}"',
            f"password: {drawn(16)}9",
            f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(60)}\n-----END RSA PRIVATE KEY-----",
            f"eyJhbGciOiJIUzI1NiJ9.eyJ{drawn(30)}.{drawn(43)}",
        )
    )


def _nearly_secret(rng: random.Random) -> str:
    sha = "".join(rng.choices("0123456789abcdef", k=40))
    return rng.choice(
        (
            f"commit {sha}",
            f"id {sha[:8]}-{sha[8:12]}-{sha[12:16]}-{sha[16:20]}-{sha[20:32]}",
            "my password: please-change-it",
            "the secret: nobody knows",
            "token = get_token_from_somewhere()",
            "https://www.corp.net:8080/path@home",
            "sk-ill issue",
        )
    )


REFUSALS: Final = (
    "I'm sorry, but I can't help with that.",
    "I apologize, but I am unable to provide that information.",
    "As an AI language model, I don't have feelings.",
    "I'm sorry, I cannot assist with this request.",
    "I cannot fulfill this request. It goes against my guidelines.",
    "I'm just an AI, so I can't go outside.",
    "Sorry, but I won't be able to help you with that request.",
    "I am not able to discuss this topic.",
    "As a large language model, I cannot browse the internet.",
    "I must decline to engage in this conversation.",
)
BOILERPLATE: Final = (
    "Click here to read more.",
    "© 2019 All rights reserved.",
    "By continuing you accept our cookie policy.",
    "Sign up for our newsletter!",
    "Please enable JavaScript to view the comments.",
    "Read our privacy policy and terms of service.",
)
_MARKUP: Final = (
    "<div class='x'>",
    "</span>",
    "<b>so",
    "Tom &amp;amp; me",
    "a&nbsp;b",
    "<a href=x>go",
)


def _plant_noise(data: Planted, take: Callable[[], list[int]], rng: random.Random) -> None:
    """Faults of the last answer."""
    changes: dict[str, Callable[[Turns], str]] = {
        "noise.refusals": lambda _: rng.choice(REFUSALS),
        "noise.boilerplate": lambda turns: f"{turns[-1]} {rng.choice(BOILERPLATE)}",
        "noise.brokenMarkup": lambda turns: f"{turns[-1]} {rng.choice(_MARKUP)}",
        "noise.unbalancedFences": lambda turns: f"{turns[-1]}\n```python\nprint(1)",
        "noise.echoAnswers": lambda turns: turns[-2],
        "noise.truncatedAnswers": lambda turns: _cut(turns[-1], rng),
        "noise.binaryText": lambda turns: (
            turns[-1] + "".join(chr(rng.randrange(32)) for _ in range(40))
        ),
    }
    for rule, change in changes.items():
        data.places[rule] = set(take())
        for place in sorted(data.places[rule]):
            turns = data.rows[place]
            data.rows[place] = [*turns[:-1], change(turns)]


def _cut(answer: str, rng: random.Random) -> str:
    # Anywhere in a sentence of fifteen words, which real answers seldom have.
    words = (answer + " and then we went to the market, because my sister had a day off").split()
    return " ".join(words[: -rng.randint(1, 12)])


def _plant_contamination(
    data: Planted, places: list[int], words: list[str], rng: random.Random
) -> None:
    """A held-out conversation inside of a training row, with a twentieth of its words another."""
    for place, other in zip(places, data.held_out, strict=False):
        data.rows[place] = [*data.rows[place][:2], *edited(other, words, rng, share=0.05)]
    data.places["contamination"] = set(places)


def _plant_copies(
    data: Planted, copied: list[int], swapped: list[int], words: list[str], rng: random.Random
) -> None:
    """Copies of which a tenth of the words is another; rows that ask the same, answered as others.

    They are appended: the first of several rows is the one that stays.
    """
    first = len(data.rows)
    data.rows += [edited(data.rows[place], words, rng) for place in copied]
    data.places["nearDuplicates"] = set(range(first, len(data.rows)))
    first = len(data.rows)
    others = swapped[1:] + swapped[:1]
    data.rows += [
        [*data.rows[place][:-1], data.rows[other][-1]]
        for place, other in zip(swapped, others, strict=True)
    ]
    data.places["conflictingAnswers"] = {*swapped, *range(first, len(data.rows))}


def as_row(turns: Turns) -> dict[str, Any]:
    """A row of format messages."""
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)
        ]
    }
