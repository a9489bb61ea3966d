r"""The types of values that fields hold, and the reference to a secret: shared by all kinds.

Each has the bounds that Kubernetes sets for what it names. Every text has a greatest length, for
without one the API server cannot tell what a CEL rule over it may cost, and refuses the CRD.

NB: the patterns are read by pydantic, whose regular expressions are Rust's, and by the API server,
whose are Go's. Neither has look-around or back-references, and to both `$` is the end of the text;
but only to Rust's are \s, \d and \w all of Unicode, so no pattern uses them.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel

# An optional domain of at most 253 characters and /, then a name of at most 63.
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
# A part of Kubernetes' quantities: no 1e9, no 0.5, so that a size is read in one way everywhere.
PROCESSORS_PATTERN = r"^[1-9][0-9]{0,5}m?$"
BYTES_PATTERN = r"^[1-9][0-9]{0,5}[MGT]i?$"
_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
EXTENDED_RESOURCE_PATTERN = rf"^{_NAME}/[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"

# 40 characters leave room in the 63 of a label for what the operator appends to a job's name.
DnsLabel = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)
]
ObjectName = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$", max_length=253)]
# A list of the words known today would make an older server refuse what a newer release observes.
CamelCase = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{0,62}$", max_length=63)]
VersionLabel = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$", min_length=1, max_length=40)]
# 253 characters of the domain, the slash, and 63 of the name.
LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN, max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN, max_length=63)]
ExtendedResource = Annotated[
    str, StringConstraints(pattern=EXTENDED_RESOURCE_PATTERN, max_length=128)
]
# Kueue knows the queue of a workload by a label, so its name is bounded as a label's value is.
QueueName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
]
Processors = Annotated[str, StringConstraints(pattern=PROCESSORS_PATTERN, max_length=7)]
Bytes = Annotated[str, StringConstraints(pattern=BYTES_PATTERN, max_length=8)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
# Of the machine that a stage runs on.
Folder = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]*$", max_length=1024)]
NonNegative = Annotated[int, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# A seed for every library: numpy's have 32 bits.
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class SecretReference(ApiModel):
    """The name of a secret that holds credentials.

    Its keys become files that only the stage can read.
    """

    name: ObjectName
