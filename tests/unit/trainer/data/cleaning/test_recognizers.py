"""Secrets and personal data, and what only looks like them."""

import time

import pytest

from tunesmith_trainer.data.cleaning.recognizers import (
    spans_of_personal_data,
    spans_of_secrets,
)

KINDS = ("email", "phone", "iban", "creditCard", "ipAddress")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "ann.b+c@mail.corp.co.uk"),
        ("phone", "+49 30 901820111"),
        ("phone", "(212) 867-4309"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("creditCard", "4012 8888 8888 1881"),
        ("ipAddress", "8.8.4.4"),
        ("ipAddress", "2001:4860:4860::8888"),
    ],
)
def test_personal_data_is_found_whole(kind: str, text: str) -> None:
    spans = spans_of_personal_data(f"so: {text}, ok", KINDS)

    assert [(span.kind, span.start, span.end) for span in spans] == [(kind, 4, 4 + len(text))]


@pytest.mark.parametrize(
    "text",
    [
        "you@example.com",
        "4012 8888 8888 1882",
        "DE88 3704 0044 0532 0130 00",
        "192.168.0.1",
        "version 8.8.4.4",
        "2019-03-14 12:30:45",
        "12,345,678.90",
        "order 1234567890123456",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert spans_of_personal_data(f"so: {text}, ok", KINDS) == []


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        'api_key = "9f8a7b6c5d4e3f2a1b0c"',
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_found(text: str) -> None:
    assert len(spans_of_secrets(f"so: {text} ok")) == 1


@pytest.mark.parametrize("text", ["password: please-change-it", "commit " + "0a" * 20, "sk-ill"])
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert spans_of_secrets(text) == []


@pytest.mark.parametrize("piece", ["a", "1", "1 ", "a.", "@", ":", "A1"])
def test_endless_text_takes_no_endless_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    begin = time.process_time()

    spans_of_personal_data(text, KINDS)
    spans_of_secrets(text)

    assert time.process_time() - begin < 5
