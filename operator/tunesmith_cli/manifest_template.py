"""The manifest that `tunesmith init` writes: whole, and each part with a word about it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from tunesmith_api.finetunejob.training import DEFAULT_LEARNING_RATES

DEFAULT_BASE_MODEL: Final = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
_LONGEST_NAME: Final = 40
_SCHEMES: Final[Mapping[str, str]] = {
    "W8A8": "8-bit weights and activations",
    "W4A16": "4-bit weights; needs more memory and time to make",
    "none": "bf16, as it was trained",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the manifest is to say; URIs as a manifest has them."""

    name: str
    data: str
    base_model: str = DEFAULT_BASE_MODEL
    method: str = "lora"
    scheme: str = "W8A8"
    # As the data itself shows it; None where nobody looked, or it does not tell.
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def manifest_text(wishes: Wishes) -> str:
    """The manifest, with comments. It is sound if the wishes are."""
    # JSON is YAML: quoted so, no name or path can be anything but a string.
    name, data, model = map(json.dumps, (wishes.name, wishes.data, wishes.base_model))
    objective = "dpo" if wishes.format == "preference" else "sft"
    rate = DEFAULT_LEARNING_RATES[objective][wishes.method]
    return f"""\
# Try it:  tunesmith plan FILE   (every default, and what it would need; runs nothing)
# Run it:  tunesmith run FILE    (the same command goes on after Ctrl-C or a crash)
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: {name}
spec:
  model:
    # hf://OWNER/NAME, or file:///FOLDER, s3://…, gs://… with safetensors or GGUF weights.
    uri: {model}
  dataset:
    train:
      # jsonl, json, csv, parquet or yaml; * takes several files. A relative file:// begins here.
      uri: {data}
    # This part of the rows is held out: the job is judged by what it was not trained on.
    validationFraction: 0.1
{_rows(wishes)}\
  training:
    # sft: answers are learnt. dpo: the chosen answer of two is preferred.
    objective: {objective}
    # lora: adapters, little memory. full: all weights.
    method: {wishes.method}
    epochs: 3
    # Longer rows are left out and counted; dataset.overlong says what else can be done.
    sequenceLength: 1024
    optimizer:
      # The default of this method. Too high is the usual mistake: a run that diverges says so.
      learningRate: {rate:.1e}
  evaluation:
    # The job fails, and nothing is published, if a gate does not hold.
    gates:
      - {{suite: heldOut, metric: loss, maxDelta: 0.0}}   # no worse on held-out rows than the base
      - {{suite: general, metric: loss, maxDelta: 0.5}}   # no more than this is forgotten
  compression:
    quantize:
      # {wishes.scheme}: {_SCHEMES[wishes.scheme]}. Others: {_other_schemes(wishes.scheme)}.
      scheme: {wishes.scheme}
  output:
    # Clients ask for the model by this name; versions of it are kept side by side.
    model: {name}
"""


def _rows(wishes: Wishes) -> str:
    columns = wishes.columns
    # These names are of one format alone, so it need not be asked for.
    is_told = set(columns) == {"prompt", "completion"}
    form = wishes.format or ("promptCompletion" if is_told else None)
    known = f"    # What the fields of a row mean.\n    format: {form}\n" if form else ""
    if not columns:
        return known
    lines = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in columns.items())
    return f"{known}    # Name of the format: name in your data.\n    columns:\n{lines}"


def _other_schemes(scheme: str) -> str:
    return ", ".join(name for name in _SCHEMES if name != scheme)


def uri_of(text: str, *, base: Path, here: Path) -> str:
    """A path, as a person in the folder `here` writes it, as the URI of a manifest in `base`.

    A URI stays as it is.
    """
    if re.match(r"[a-z][a-z0-9]*://", text):
        return text
    path = here / Path(text).expanduser()
    if path.is_relative_to(base):
        return f"file://{quote(path.relative_to(base).as_posix(), safe='/*?[]')}"
    return f"file://{quote(path.as_posix(), safe='/*?[]')}"


def name_for(data: str) -> str:
    """A name for job and model, after its data: my-tickets-v2 of `My Tickets.v2.jsonl`."""
    stem = unquote(data).rstrip("/").rpartition("/")[2].partition("?")[0]
    stem = re.sub(r"(\.(jsonl|json|csv|tsv|parquet|ya?ml|gz|zst))+$", "", stem.lower())
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:_LONGEST_NAME].rstrip("-")
    return name or "my-model"
