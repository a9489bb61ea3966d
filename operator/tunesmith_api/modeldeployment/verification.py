"""`spec.verification`: whose versions are served."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel

# PEM of an ECDSA P-256 key: its 91 bytes begin alike up to where the point does, which is on a
# border of base64. So a key of another kind is refused before anybody reads it.
_BODY: Final = r"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[\w+/=\s]+"
PUBLIC_KEY_PATTERN: Final = rf"^-----BEGIN PUBLIC KEY-----\s+{_BODY}-----END PUBLIC KEY-----\s*$"

PublicKey = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN, max_length=256)]


class Verification(ApiModel):
    """What a version has to prove before a replica loads it, beside its digest."""

    public_keys: Annotated[list[PublicKey], Field(max_length=8)] = Field(
        default_factory=list,
        description="Serve only what was signed with one of these keys (output.signing of a job): "
        "each an ECDSA P-256 public key in PEM, beginning with -----BEGIN PUBLIC KEY-----. Two, "
        "while a key is replaced. Default: signatures are not asked for.",
    )
