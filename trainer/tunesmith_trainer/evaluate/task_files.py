"""The files of a task of lm-evaluation-harness, read so that nothing in them can run code.

The harness would import functions that a task's YAML names (`!function`), fetch data sets and
metrics from a hub, and render templates without bounds. A task of a job comes from elsewhere: it
may have templates, which are rendered in a sandbox (`harness.py`), data files beside it, and the
settings that are listed here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tunesmith_api.reasons import Reason
from tunesmith_api.yaml_nodes import unfolded_characters
from tunesmith_engine.stages.errors import BadInputError

# Of one task: its settings are text of some pages.
_MOST_NODES: Final = 20_000
_MOST_CHARACTERS: Final = 10_000_000
# Loaders that read local files, none of which unpickles.
_LOADERS: Final = frozenset({"json", "csv", "parquet", "text"})
_SETTINGS: Final = frozenset({
    "dataset_kwargs", "dataset_path", "description", "doc_to_choice",
    "doc_to_decontamination_query", "doc_to_target", "doc_to_text", "fewshot_config",
    "fewshot_delimiter", "fewshot_split", "filter_list", "gen_prefix", "generation_kwargs",
    "metadata", "metric_list", "num_fewshot", "output_type", "repeats", "should_decontaminate",
    "tag", "target_delimiter", "task", "task_alias", "test_split", "training_split",
    "validation_split",
})  # fmt: skip
_DATA_SETTINGS: Final = frozenset(
    {"column_names", "data_dir", "data_files", "delimiter", "field", "sep"}
)
# transformers' `generate` takes others that load code.
_GENERATION_SETTINGS: Final = frozenset({
    "do_sample", "max_gen_toks", "num_beams", "repetition_penalty", "temperature", "top_k", "top_p",
    "until",
})  # fmt: skip
_METRIC_SETTINGS: Final = frozenset({
    "aggregation", "higher_is_better", "ignore_case", "ignore_numbers", "ignore_punctuation",
    "metric", "regexes_to_ignore",
})  # fmt: skip


class Function(str):
    """What stood behind `!function`."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """YAML of data alone, except that `!function` is told apart."""


def _function(_loader: yaml.SafeLoader, node: yaml.Node) -> Function:
    return Function(node.value)


_Loader.add_constructor("!function", _function)


def read_task(folder: Path, task: str, *, field: str) -> dict[str, Any]:
    """The settings of `task` as the harness takes them, with whole paths of its data files.

    `field` is the suite's path in the spec, for errors.

    Raises:
        BadInputError: no file defines the task, a file that it names is missing, or it asks for
            what is not allowed.
    """
    path = _file_of(folder, task, field=field)
    settings = _with_includes(path, folder=folder, field=field)
    where = f"spec.{field}: task '{task}' ({path.relative_to(folder)})"
    _refuse_code(settings, where=where)
    unknown = sorted(set(settings) - _SETTINGS)
    if unknown:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where} has the setting {', '.join(unknown)}, which is not supported; leave it out.",
        )
    if settings.get("dataset_path") not in _LOADERS:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where} has dataset_path '{settings.get('dataset_path')}'; only local files are "
            f"read: give one of {', '.join(sorted(_LOADERS))}, and dataset_kwargs.data_files.",
        )
    given = settings.get("dataset_kwargs") or {}
    files = _data_files(given, beside=path.parent, folder=folder, where=where)
    return {**settings, "dataset_kwargs": files}


def _file_of(folder: Path, task: str, *, field: str) -> Path:
    defined = {}
    for path in sorted(file for pattern in ("*.yaml", "*.yml") for file in folder.rglob(pattern)):
        settings = _read_yaml(path, field=field)
        if settings.get("task") == task:
            return path
        defined[str(path.relative_to(folder))] = settings.get("task")
    told = ", ".join(f"{name} (task {of})" if of else name for name, of in defined.items())
    raise BadInputError(
        Reason.DATASET_NOT_FOUND,
        f"spec.{field}.task: no YAML file below {folder} defines the task '{task}'; it holds "
        f"{told or 'no .yaml file'}.",
    )


def _loaded(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        unfolded_characters(node, max_nodes=_MOST_NODES, max_characters=_MOST_CHARACTERS)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _read_yaml(path: Path, *, field: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_CHARACTERS:
            raise ValueError("it is too large")  # noqa: TRY301 - told as any other fault of it
        settings = _loaded(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f", line {line + 1}"
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"spec.{field}: {path}{at} is no YAML of plain data ({type(error).__name__}); mend it.",
        ) from error
    return settings if isinstance(settings, dict) else {}


def _with_includes(
    path: Path, *, folder: Path, field: str, seen: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """A file's settings over those of the files that it includes, as the harness merges them."""
    settings = _read_yaml(path, field=field)
    included = settings.pop("include", [])
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        below = _inside(path.parent / str(name), folder=folder)
        if below is None or not below.is_file() or below in seen:
            raise BadInputError(
                Reason.DATASET_NOT_FOUND,
                f"spec.{field}: {path.name} includes {name}, which is not a file of its own in "
                f"{folder}; put it there.",
            )
        merged |= _with_includes(below, folder=folder, field=field, seen=(*seen, below))
    return merged | settings


def _refuse_code(settings: dict[str, Any], *, where: str) -> None:
    named = [f"{place}: !function {value}" for place, value in _functions(settings, "")]
    if named:
        raise BadInputError(
            Reason.REMOTE_CODE_REFUSED,
            f"{where} would run code ({named[0]}), and a job runs none that comes with data; say "
            "it in a template, or prepare the data files so that they need none.",
        )
    metrics = settings.get("metric_list") or []
    strange = sorted(
        str(name)
        for holder, known in (
            *((metric, _METRIC_SETTINGS) for metric in metrics if isinstance(metric, dict)),
            (settings.get("generation_kwargs") or {}, _GENERATION_SETTINGS),
        )
        for name in set(holder) - known
    )
    if strange:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where} sets {', '.join(strange)} below metric_list or generation_kwargs, which is "
            "not supported; leave it out.",
        )


def _functions(value: Any, place: str) -> Iterator[tuple[str, Function]]:
    if isinstance(value, Function):
        yield place.removeprefix("."), value
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _functions(child, f"{place}.{name}")
    elif isinstance(value, list):
        for child in value:
            yield from _functions(child, place)


def _data_files(given: dict[str, Any], *, beside: Path, folder: Path, where: str) -> dict[str, Any]:
    """`dataset_kwargs` with whole paths; those of a task are relative to its YAML file."""
    unknown = sorted(set(given) - _DATA_SETTINGS)
    files = given.get("data_files")
    if unknown or not files:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where} needs dataset_kwargs.data_files with a file for each split, and may have "
            f"{', '.join(sorted(_DATA_SETTINGS))} there; it has {', '.join(given) or 'none'}.",
        )
    root = beside / str(given.get("data_dir", ""))
    splits = files if isinstance(files, dict) else {"train": files}
    paths = {
        split: [
            _data_file(root / str(name), folder=folder, where=where)
            for name in (names if isinstance(names, list) else [names])
        ]
        for split, names in splits.items()
    }
    kept = {name: value for name, value in given.items() if name != "data_dir"}
    return {**kept, "data_files": paths}


def _data_file(path: Path, *, folder: Path, where: str) -> str:
    inside = _inside(path, folder=folder)
    if inside is None or not inside.is_file():
        raise BadInputError(
            Reason.DATASET_NOT_FOUND,
            f"{where} reads {path.name}, and there is no such file at {path}; it has to lie "
            f"in {folder}.",
        )
    return str(inside)


def _inside(path: Path, *, folder: Path) -> Path | None:
    """The path without links, if it stays in the folder."""
    real = path.resolve()
    return real if real.is_relative_to(folder.resolve()) else None
