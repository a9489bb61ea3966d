"""What commands ask of a cluster: by the `kubectl` of the user, with its configuration."""

import json
import subprocess
import sys
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from tunesmith_api.field_types import ObjectName
from tunesmith_cli.errors import CommandError

_TIMEOUT_S: Final = 20
_NO_KUBECTL: Final = "kubectl is not on the PATH; install it"
Json = dict[str, Any]


class KubectlError(Exception):
    """What kubectl said, in a line."""


def require_name(given: str) -> None:
    """Return if `given` can name an object or a namespace.

    Raises:
        CommandError: it cannot; it would become an argument of kubectl, and part of a path.
    """
    try:
        TypeAdapter(ObjectName).validate_python(given)
    except ValidationError as error:
        raise CommandError(
            f"'{given}' is no name of an object or a namespace; names have small letters, digits "
            "and hyphens"
        ) from error


def kubectl_json(*arguments: str) -> Json:
    """What kubectl prints with `--output json`.

    Raises:
        KubectlError: it cannot be asked, or refuses.
    """
    content: Json = json.loads(kubectl(*arguments, "--output", "json"))
    return content


def kubectl(*arguments: str) -> str:
    """What kubectl prints.

    Raises:
        KubectlError: it cannot be asked, or refuses.
    """
    try:
        done = subprocess.run(
            ["kubectl", *arguments],  # noqa: S607 - the one that the user has on the PATH
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise KubectlError(_NO_KUBECTL) from error
    except subprocess.TimeoutExpired as error:
        raise KubectlError(f"no answer within {_TIMEOUT_S} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"kubectl ended with {done.returncode}"]
        raise KubectlError(said[-1])
    return done.stdout


def kubectl_through(*arguments: str) -> int:
    """Let kubectl write to this command's own streams for as long as it does; its exit code.

    Raises:
        KubectlError: there is no kubectl.
    """
    # What Python has buffered stands in front of what kubectl will write.
    sys.stdout.flush()
    command = ["kubectl", *arguments]
    try:
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    except FileNotFoundError as error:
        raise KubectlError(_NO_KUBECTL) from error
