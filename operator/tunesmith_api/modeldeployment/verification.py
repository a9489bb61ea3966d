"""`spec.verification`: whose versions are served."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel

# PEM of an ECDSA P-256 key: its 91 bytes begin alike up to where the point does, which is on a
# border of base64. So a key of another kind is refused before anybody reads it.
# NB: no \s and no \w, which mean other letters to the API server than to Python.
_BODY: Final = r"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[A-Za-z0-9+/\r\n]{86,96}==[\r\n]+"
PUBLIC_KEY_PATTERN: Final = (
    rf"^-----BEGIN PUBLIC KEY-----[\r\n]+{_BODY}-----END PUBLIC KEY-----[\r\n]*$"
)

PublicKey = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN, max_length=256)]


class Verification(ApiModel):
    """What a version has to prove before a replica loads it, beside its digest."""

    public_keys: Annotated[list[PublicKey], Field(max_length=8)] = Field(
        default_factory=list,
        description="Serve only what was signed with one of these keys (output.signing of a job): "
        "each an ECDSA P-256 public key in PEM, beginning with -----BEGIN PUBLIC KEY-----. Two, "
        "while a key is replaced. Default: signatures are not asked for.",
    )
