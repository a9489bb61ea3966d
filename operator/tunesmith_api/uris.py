"""What a URI field may hold.

One pattern for the API server, the models and the resolver alike.
"""

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from pydantic import StringConstraints

SCHEMES = ("hf", "s3", "gs", "https", "file", "python")
# NB: no \s here: Go's regular expressions, which the API server uses, know only ASCII's spaces.
# And neither user nor query, which is where people put keys and signatures: a URI is shown in the
# status, in logs and on published cards. Only Azure writes its container before an @, and S3 the
# version of an object into a query.
# A port is a number: else a password with a slash in it would pass for a host and its path.
_HOST = r"([^\x00-\x20\x7f/?#@:]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_BUCKET = rf"(arn:[^\x00-\x20\x7f/?#@]+|{_HOST})"
_PATH = r"(/[^\x00-\x20\x7f?]*)?"
_STORE = rf"(s3|gs)://{_BUCKET}{_PATH}"
_VERSIONED = rf"s3://{_BUCKET}/[^\x00-\x20\x7f?]+[?]versionId=[A-Za-z0-9._-]+"
_AZURE = rf"(abfs|az)://([^\x00-\x20\x7f/?#@:]+@)?{_HOST}{_PATH}"
_WEB = rf"https://{_HOST}(/[^\x00-\x20\x7f?#]*)?"
_LOCAL = r"(file|python)://[^\x00-\x20\x7f]+"
SOURCE_PATTERN = rf"^(hf://{_HOST}{_PATH}|{_STORE}|{_VERSIONED}|{_WEB}|{_LOCAL})$"
TARGET_PATTERN = rf"^((hf|oci)://{_HOST}{_PATH}|{_STORE}|{_AZURE}|file://[^\x00-\x20\x7f]+)$"
# What has a listing: https:// has none, and a folder of a hub is not fetched.
FOLDER_PATTERN = rf"^({_STORE}|{_LOCAL})$"
STORE_PATTERN = rf"^({_STORE}|{_AZURE})$"

# What a repository is called by the hub, and by the distribution specification of OCI. Both are
# whole matches, and no escapes: CEL and Python read them alike.
HUB_TARGET = (
    "^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    "(@[A-Za-z0-9][A-Za-z0-9._/-]{0,99})?$"
)
REGISTRY_TARGET = (
    "^oci://[a-z0-9][a-z0-9.-]{0,252}(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
    "(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$"
)

SourceUri = Annotated[str, StringConstraints(pattern=SOURCE_PATTERN, max_length=1024)]
FolderUri = Annotated[str, StringConstraints(pattern=FOLDER_PATTERN, max_length=1024)]
StoreUri = Annotated[str, StringConstraints(pattern=STORE_PATTERN, max_length=1024)]
TargetUri = Annotated[str, StringConstraints(pattern=TARGET_PATTERN, max_length=1024)]


# No empty port: what a colon and a slash begin is a password.
_HOST_AND_PORT = re.compile(r"arn:.*|([^:]*|\[[0-9A-Fa-f:.]*\])(:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI taken apart.

    `scheme`, and `path`, which is everything after `://` with %-escapes undone.
    """

    scheme: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"


def redacted(text: str) -> str:
    """The text of a URI, or of what was meant as one, without the places where keys are put."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    # The last @ before the path: a password may hold one, too.
    host, slash, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    if "@" in path and not _HOST_AND_PORT.fullmatch(host):
        return f"{scheme}://{_behind_password(rest)}"
    shown = f"{scheme}://{'…@' if user and at else ''}{host}{slash}{path}"
    head, *query = re.split("[?#]", shown, maxsplit=1)
    return f"{head}?…" if query else shown


def _behind_password(rest: str) -> str:
    """Of a URI whose password holds a slash that should have been written as %2F: the host."""
    password, _, host = rest.rpartition("@")
    # Of a signed query nothing is shown, which may hold an @ as well.
    return "…" if re.search("[?#]", password) else f"…@{re.split('[?#]', host)[0]}"


def parse_uri(text: str) -> Uri:
    """Take `text` apart.

    Raises:
        ValueError: no known scheme, or nothing after it.
    """
    scheme, separator, path = text.partition("://")
    if not separator or scheme not in SCHEMES or not path:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"'{text}' is no URI Tunesmith can read: start it with one of {known}")
    return Uri(scheme=scheme, path=unquote(path) if scheme in {"file", "python"} else path)
