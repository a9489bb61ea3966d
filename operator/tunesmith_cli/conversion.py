"""A plain configuration of Axolotl or LLaMA-Factory as a job: what is taken, and what is not.

Pure. Whatever has no counterpart is told, never guessed: a person decides about it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from tunesmith_api.base import API_VERSION
from tunesmith_api.yaml_io import write_yaml
from tunesmith_cli.foreign_settings import NOT_NEEDED, TOOLS, Same
from tunesmith_cli.manifest_template import name_for

_DEFAULT_FRACTION: Final = 0.1
_PARTS: Final = ("model", "dataset", "training", "output")
# Types of Axolotl's data sets by format; others carry names of columns or prompts of their own.
_FORMATS: Final[Mapping[str, str]] = {
    "alpaca": "alpaca",
    "sharegpt": "sharegpt",
    "chat_template": "messages",
    "completion": "text",
}
# What rows may call the field by which a turn is trained or not.
_TRAIN_FLAGS: Final = ("train", "training", "weight")
_SUFFIXES: Final = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".gz", ".zst")


class ConversionError(Exception):
    """The file is no configuration that can be converted; the message says why."""


@dataclass
class Conversion:
    """The manifest so far, and a line for each field that needs a person."""

    tool: str
    spec: dict[str, Any] = field(default_factory=dict)
    open_points: list[str] = field(default_factory=list)
    name: str = "converted"

    def put(self, path: str, value: object) -> None:
        """Set the field at a dotted path below `spec`."""
        place = self.spec
        *parents, last = path.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value

    def text(self) -> str:
        """The manifest, with what is open as comments above it."""
        head = (
            f"# Converted from {self.tool}. Try it: tunesmith validate FILE, tunesmith plan FILE\n"
        )
        points = "".join(f"# OPEN: {point}\n" for point in self.open_points)
        job: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": "FineTuneJob",
            "metadata": {"name": self.name},
            # In the order in which people write them; fields came in that of the other tool.
            "spec": {part: self.spec[part] for part in _PARTS if part in self.spec},
        }
        return head + points + write_yaml(job)


def convert(given: Mapping[str, Any]) -> Conversion:
    """The job that a configuration describes.

    Raises:
        ConversionError: it is of neither tool.
    """
    known = [named for mark, named in TOOLS.items() if given.get(mark)]
    if not known:
        raise ConversionError(
            "neither base_model (Axolotl) nor model_name_or_path (LLaMA-Factory) is in the file"
        )
    tool, fields = known[0]
    conversion = Conversion(tool)
    # Read together, after those that stand for themselves.
    combined: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        taken = fields.get(name)
        if isinstance(taken, Same):
            _copy(conversion, name, value, taken)
        elif taken is not None:
            combined.setdefault(taken, {})[name] = value
        elif name not in NOT_NEEDED and value not in (None, "", [], {}):
            conversion.open_points.append(f"{name}: {_shown(value)} has no counterpart")
    _combine(conversion, combined)
    return conversion


def _copy(conversion: Conversion, name: str, value: Any, taken: Same) -> None:
    if taken.words is None:
        if value is not None:
            conversion.put(taken.path, value)
        return
    word = taken.words.get("" if value is None else str(value).lower())
    if word is None and value is None:
        # Left empty: the default of either.
        return
    if word is None:
        conversion.open_points.append(
            f"{name}: {_shown(value)} is not among {', '.join(filter(None, taken.words))}"
        )
        return
    conversion.put(taken.path, word)
    if value == "qlora":
        # The word means adapters on weights in four bits (Dettmers et al. 2023).
        conversion.put("training.lora.quantization", "nf4")


def _combine(conversion: Conversion, given: Mapping[str, Mapping[str, Any]]) -> None:
    model = next(iter(given["model"].values()))
    conversion.put("model.uri", _model_uri(str(model)))
    _data(conversion, given.get("data", {}))
    held_out = next(iter(given.get("held out", {}).values()), _DEFAULT_FRACTION)
    if isinstance(held_out, int | float) and 0 < held_out < 1:
        conversion.put("dataset.validationFraction", held_out)
    else:
        conversion.open_points.append(
            f"{_shown(held_out)} rows held out: give dataset.validationFraction, a part of all"
        )
    output = next(iter(given.get("name", {}).values()), "")
    conversion.name = name_for(PurePosixPath(str(output)).name or "converted")
    conversion.put("output.model", conversion.name)
    _batch(conversion, list(given.get("batch", {}).items()))
    _steps(conversion, given)
    if modules := next(iter(given.get("modules", {}).values()), None):
        conversion.put("training.lora.targetModules", _modules(modules))
    if any(value is True for value in given.get("precision", {}).values()):
        is_bf16 = given["precision"].get("bf16") is True
        conversion.put("training.precision", "bf16" if is_bf16 else "auto")


def _data(conversion: Conversion, given: Mapping[str, Any]) -> None:
    listed = given.get("datasets", given.get("dataset"))
    sources = listed if isinstance(listed, list) else str(listed or "").split(",")
    first = sources[0] if sources else ""
    if len(sources) > 1:
        conversion.open_points.append(
            f"{len(sources)} data sets: a job has one; a pattern with * takes several files"
        )
    if not isinstance(first, dict):
        # LLaMA-Factory names entries of its own dataset_info.json.
        conversion.put("dataset.train.uri", f"file://{str(first).strip() or 'data'}.jsonl")
        conversion.open_points.append(
            f"dataset {_shown(first)}: put the file in dataset.train.uri that dataset_info.json "
            "names"
        )
        return
    path = str(first.get("data_files") or first.get("path") or "data.jsonl")
    conversion.put("dataset.train.uri", _data_uri(path))
    if not _is_file(path):
        conversion.open_points.append(f"datasets: name the file of {path}, after its /")
    kind = first.get("type")
    if isinstance(kind, str) and kind in _FORMATS:
        conversion.put("dataset.format", _FORMATS[kind])
    elif kind is not None:
        conversion.open_points.append(
            f"datasets.type: {_shown(kind)}; set dataset.format and dataset.columns"
        )
    _turns(conversion, first)


def _turns(conversion: Conversion, given: Mapping[str, Any]) -> None:
    """Names of a conversation's fields, and which of its turns are trained."""
    columns = {
        ours: given[theirs]
        for theirs, ours in (("field_messages", "messages"), ("field_tools", "tools"))
        if given.get(theirs) not in (None, ours)
    }
    if columns:
        conversion.put("dataset.columns", columns)
    flag = given.get("message_field_training")
    if flag not in (None, *_TRAIN_FLAGS):
        conversion.open_points.append(
            f"datasets.message_field_training: {_shown(flag)}; rename it to train in the rows"
        )
    if given.get("message_field_training_detail") is not None:
        conversion.open_points.append(
            "datasets.message_field_training_detail: parts of a turn have no counterpart; a turn "
            "is trained or is not (train)"
        )
    if given.get("roles_to_train") not in (None, ["assistant"], ["gpt"], ["assistant", "gpt"]):
        conversion.open_points.append(
            f"datasets.roles_to_train: {_shown(given['roles_to_train'])}; only the assistant's "
            "turns are trained"
        )


def _batch(conversion: Conversion, given: list[tuple[str, Any]]) -> None:
    sizes = {name: value for name, value in given if isinstance(value, int)}
    accumulated = sizes.pop("gradient_accumulation_steps", 1)
    micro = next(iter(sizes.values()), None)
    if micro is None:
        return
    conversion.put("training.batch.microBatchSize", micro)
    # Theirs is of each device; ours counts the rows of a step over all workers.
    conversion.put("training.batch.size", micro * accumulated)


def _steps(conversion: Conversion, given: Mapping[str, Mapping[str, Any]]) -> None:
    steps = next(iter(given.get("steps", {}).values()), None)
    # Both take -1 for "as many as the epochs make".
    if isinstance(steps, int) and steps > 0:
        conversion.put("training.maxSteps", steps)
        conversion.spec.get("training", {}).pop("epochs", None)
    else:
        steps = None
    warm_up = given.get("warm-up", {})
    if isinstance(warm_up.get("warmup_ratio"), int | float):
        conversion.put("training.schedule.warmupRatio", warm_up["warmup_ratio"])
    elif steps and isinstance(warm_up.get("warmup_steps"), int):
        conversion.put("training.schedule.warmupRatio", warm_up["warmup_steps"] / steps)
    elif warm_up.get("warmup_steps"):
        conversion.open_points.append(
            f"warmup_steps: {warm_up['warmup_steps']}; set training.schedule.warmupRatio, a part "
            "of all steps"
        )


def _modules(given: Any) -> list[str]:
    names = given if isinstance(given, list) else str(given).split(",")
    listed = [str(name).strip() for name in names]
    return ["all-linear"] if listed in (["all"], ["all-linear"]) else listed


def _model_uri(text: str) -> str:
    return f"file://{text}" if text.startswith((".", "/", "~")) else f"hf://{text}"


def _data_uri(path: str) -> str:
    if "://" in path:
        return path
    return f"file://{path}" if _is_file(path) else f"hf://datasets/{path}"


def _is_file(path: str) -> bool:
    return path.lower().endswith(_SUFFIXES)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]
