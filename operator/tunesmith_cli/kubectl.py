"""What commands ask of a cluster: by the `kubectl` of the user, with its configuration."""

import json
import subprocess
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The user's kubectl, with its own context or with the one given."""

    context: str | None = None

    def json(self, *arguments: str) -> Json:
        """What it prints with `--output json`.

        Raises:
            KubectlError: it cannot be asked, or refuses.
        """
        content: Json = json.loads(self.text(*arguments, "--output", "json"))
        return content

    def text(self, *arguments: str) -> str:
        """What it prints.

        Raises:
            KubectlError: it cannot be asked, or refuses.
        """
        try:
            done = subprocess.run(
                self._command(arguments),
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

    def through(self, *arguments: str) -> int:
        """Let it write to this command's own streams for as long as it does; its exit code.

        Raises:
            KubectlError: there is no kubectl.
        """
        # What Python has buffered stands in front of what kubectl will write.
        sys.stdout.flush()
        try:
            return subprocess.run(
                self._command(arguments), check=False, stdin=subprocess.DEVNULL
            ).returncode
        except FileNotFoundError as error:
            raise KubectlError(_NO_KUBECTL) from error

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        # One word: a context whose name begins with a hyphen is no option of kubectl.
        context = [] if self.context is None else [f"--context={self.context}"]
        return ["kubectl", *arguments, *context]
