"""Which public keys a ModelDeployment may name: those of one kind, in PEM."""

import pytest
from pydantic import ValidationError

from signing_keys import other_kinds, p256, private_pem, public_pem
from tunesmith_api.modeldeployment.verification import Verification


@pytest.mark.parametrize("_", range(8))
def test_keys_of_the_kind_are_taken_as_files_have_them(_: int) -> None:
    text = public_pem(p256())

    for each in (text, text.strip(), text.replace("\n", "\r\n")):
        assert Verification(public_keys=[each]).public_keys == [each]


@pytest.mark.parametrize(
    "text",
    [*(public_pem(key) for key in other_kinds().values()), private_pem(p256()), "", "release"],
    ids=[*other_kinds(), "private", "empty", "name"],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Verification(public_keys=[text])
