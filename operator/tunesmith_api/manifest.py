"""From the text of a manifest to a `FineTuneJob`, or to every problem it has, with file and line.

The second step after `yaml_io.py`, and the only way in for what people write: the command line
reads every job here, so that a manifest is refused before anything is fetched. `validation_errors.py`
words the problems. The API server refuses the same manifests, by the CRD of the same models.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api.base import API_VERSION
from tunesmith_api.field_paths import FieldPath, dotted
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.validation_errors import complaint, near_match
from tunesmith_api.yaml_io import MAX_CHARACTERS, YamlError, YamlSource, read_yaml

_IDENTITY = {"apiVersion": API_VERSION, "kind": "FineTuneJob"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: the field, the line it stands on (0: none), and what to do about it."""

    path: str
    line: int
    message: str


class ManifestError(ValueError):
    """A manifest that is no sound job; `problems` are all of them, in the order of their lines."""

    def __init__(self, problems: list[Problem], *, source: str) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        self.source = source
        super().__init__("\n".join(self._line(problem) for problem in self.problems))

    def _line(self, problem: Problem) -> str:
        place = f"{self.source}:{problem.line}" if problem.line else self.source
        return ": ".join(part for part in (place, problem.path, problem.message) if part)


def read_manifest(path: Path) -> str:
    """The text of the file, for `load_job`.

    Raises:
        ManifestError: there is no such file, it cannot be read, is too large, or is not UTF-8.
    """
    try:
        if path.stat().st_size > 4 * MAX_CHARACTERS:
            raise _refusal(
                f"{path.stat().st_size:,} bytes; a manifest has at most {4 * MAX_CHARACTERS:,}:"
                " name data by its uri instead of writing it here",
                source=str(path),
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        message = f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise _refusal(message, line=line, source=str(path)) from error
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the path of the manifest"
        raise _refusal(message, source=str(path)) from error


def load_job(text: str, *, source: str = "manifest") -> FineTuneJob:
    """The job that `text` describes; `source` names the file in messages.

    A status is passed over: what was observed is never input.

    Raises:
        ManifestError: the text breaks a rule; every problem is listed.
    """
    try:
        found = read_yaml(text)
    except YamlError as error:
        message = error.message
        raise _refusal(message, path=error.path, line=error.line, source=source) from error
    strangers = _not_a_job(found)
    if strangers:
        raise ManifestError(strangers, source=source)
    given = {key: value for key, value in found.value.items() if key != "status"}
    try:
        return FineTuneJob.model_validate(given, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ManifestError(_problems(error, found=found), source=source) from error


def _not_a_job(found: YamlSource) -> list[Problem]:
    return [
        Problem(path=field, line=found.line_of((field,)), message=_stranger(given, wanted=wanted))
        for field, wanted in _IDENTITY.items()
        if (given := found.value.get(field)) != wanted
    ]


def _stranger(given: object, *, wanted: str) -> str:
    if given is None:
        return f"required, but not given; write {wanted}"
    near = near_match(str(given), [wanted])
    return f"{given!r} is not {wanted}; " + (
        f"did you mean '{near}'?" if near else f"write {wanted}"
    )


def _problems(error: ValidationError, *, found: YamlSource) -> list[Problem]:
    problems = []
    for details in error.errors(include_url=False):
        path = tuple(part for part in details["loc"] if part != "[key]")
        problems.append(
            Problem(
                path=dotted(path), line=found.line_of(path), message=complaint(details, path=path)
            )
        )
    return problems


def _refusal(message: str, *, source: str, path: FieldPath = (), line: int = 0) -> ManifestError:
    return ManifestError([Problem(path=dotted(path), line=line, message=message)], source=source)
