"""From the text of a manifest to a resource, or to every problem it has, with file and line.

The second step after `yaml_io.py`, and the only way in for what people write: the command line
reads every manifest here, so that a manifest is refused before anything is fetched.
`validation_errors.py` words the problems. The API server refuses the same manifests, by the CRD of
the same models.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.field_paths import FieldPath, dotted
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.kinds import KINDS
from tunesmith_api.validation_errors import error_message, error_path, near_match
from tunesmith_api.yaml_io import MAX_CHARACTERS, YamlError, YamlSource, read_yaml

# A character of UTF-8 has at most four bytes, so no text that is short enough is refused by size.
_MAX_BYTES: Final = 4 * MAX_CHARACTERS

# As `kubectl apply -f -` has it.
STANDARD_INPUT: Final = Path("-")

Resource = TypeVar("Resource", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: the field, the line it stands on (0: none), and what to do about it."""

    path: str
    line: int
    message: str


class ManifestError(ValueError):
    """A manifest that is not sound; `problems` are all of them, in the order of their lines."""

    def __init__(self, problems: list[Problem], *, source: str) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        self.source = source
        super().__init__("\n".join(map(self._text_of, self.problems)))

    def _text_of(self, problem: Problem) -> str:
        place = f"{self.source}:{problem.line}" if problem.line else self.source
        return ": ".join(part for part in (place, problem.path, problem.message) if part)


def label_of(path: Path) -> str:
    """What messages call the file."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_manifest(path: Path) -> str:
    """The text of the file, or of standard input for `-`; for `load_job` and `load_any_kind`.

    Raises:
        ManifestError: there is no such file, it cannot be read, is too large, or is not UTF-8.
    """
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.buffer.read(_MAX_BYTES + 1).decode("utf-8-sig")
        # NB: the size is asked before the file is read: it may be a data set named by mistake.
        if path.stat().st_size > _MAX_BYTES:
            raise _refusal(
                f"{path.stat().st_size:,} bytes; a manifest has at most {_MAX_BYTES:,}:"
                " name data by its uri instead of writing it here",
                source=label_of(path),
            )
        # Editors of Windows put a byte order mark first, which YAML would take for a character.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        message = f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise _refusal(message, line=line, source=label_of(path)) from error
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the path of the manifest"
        raise _refusal(message, source=label_of(path)) from error


def load_job(text: str, *, source: str = "manifest") -> FineTuneJob:
    """The job that `text` describes; `source` names the file in messages.

    Raises:
        ManifestError: the text breaks a rule; every problem is listed.
    """
    return load_resource(text, FineTuneJob, source=source)


def load_resource(text: str, model: type[Resource], *, source: str = "manifest") -> Resource:
    """The resource that `text` describes, of the kind whose model is given.

    A status is passed over: what was observed is never input.

    Raises:
        ManifestError: the text is of another kind, or breaks a rule; every problem is listed.
    """
    return _resource_in(_document(text, source=source), model, source=source)


def load_any_kind(text: str, *, source: str = "manifest") -> ApiModel:
    """The resource that `text` describes, of the kind of the group that it names itself.

    Raises:
        ManifestError: no kind of the group has that name, or the text breaks a rule; every problem
            is listed.
    """
    document = _document(text, source=source)
    models = {kind.name: kind.model for kind in KINDS}
    problems = _identity_problems(document, wanted=tuple(models))
    if problems:
        raise ManifestError(problems, source=source)
    return _resource_in(document, models[str(document.value["kind"])], source=source)


def _document(text: str, *, source: str) -> YamlSource:
    try:
        return read_yaml(text)
    except YamlError as error:
        raise _refusal(error.message, path=error.path, line=error.line, source=source) from error


def _resource_in(document: YamlSource, model: type[Resource], *, source: str) -> Resource:
    # Before the fields: those of another kind are no misspelt fields of this one.
    strangers = _identity_problems(document, wanted=(model.__name__,))
    if strangers:
        raise ManifestError(strangers, source=source)
    given = {key: value for key, value in document.value.items() if key != "status"}
    try:
        # NB: strict and by alias alone, as the server reads: pydantic by itself would take "3" for
        # a number and learning_rate for learningRate.
        return model.model_validate(given, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = [
            Problem(
                path=dotted(error_path(details)),
                line=document.line_of(error_path(details)),
                message=error_message(details, model=model),
            )
            for details in error.errors(include_url=False)
        ]
        raise ManifestError(problems, source=source) from error


def _identity_problems(document: YamlSource, *, wanted: tuple[str, ...]) -> list[Problem]:
    """What says that the document is of none of these kinds, or of another version of them."""
    problems = []
    for field, known in (("apiVersion", (API_VERSION,)), ("kind", wanted)):
        given = document.value.get(field)
        if given in known:
            continue
        is_one = len(known) == 1
        right = ", ".join(known)
        near = near_match(str(given), known)
        if given is None:
            message = f"required, but not given; write {right if is_one else f'one of {right}'}"
        else:
            remedy = f"write {right}" if is_one else "choose one of them"
            hint = f"did you mean '{near}'?" if near else remedy
            message = f"{given!r} is {'not' if is_one else 'none of'} {right}; {hint}"
        problems.append(Problem(path=field, line=document.line_of((field,)), message=message))
    return problems


def _refusal(message: str, *, source: str, path: FieldPath = (), line: int = 0) -> ManifestError:
    return ManifestError([Problem(path=dotted(path), line=line, message=message)], source=source)
