"""The base model as a folder of safetensors with tokenizer and chat template.

`stage` asks for it; `gguf` and `preflight` serve it. A folder of safetensors is used where it lies.
A GGUF file is converted in the cache. With `spec.model.chatTemplate`, the stage's own output gets a
folder of links to the weights with that template beside them, so that every later stage, and the
server, sees the same one. So does a version that Tunesmith has published, without its documents.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.model_facts import ModelFacts, read_model_facts
from tunesmith_engine.sources.published_model import is_quantized, quantized
from tunesmith_engine.sources.resolver import fetch_model
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.prepare.continued_version import continued_version
from tunesmith_trainer.prepare.gguf import converted_model
from tunesmith_trainer.prepare.preflight import refuse_too_large

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEMPLATE_FILE: Final = "chat_template.jinja"
_TOKENIZER_SETTINGS: Final = "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Where the base model lies, its shape, its tokenizer, and the ids that end its answers.

    `stops` are the ids at which transformers and vLLM stop: those that the generation settings
    name, and the tokenizer's own. `parent_digest` is that of the version that the job continues.
    """

    folder: Path
    facts: ModelFacts
    tokenizer: "PreTrainedTokenizerBase"
    stops: frozenset[int]
    parent_digest: str | None = None


def prepare_base(request: StageRequest) -> BaseModel:
    """Fetch the base model, check that there is room for the job, and convert what needs it.

    Raises:
        StageError: the model cannot be fetched or used, or the job is too large.
    """
    model = request.spec.model
    cache = Path(request.cache)
    try:
        source = fetch_model(
            model, base=Path(request.base), cache=cache, secrets=Path(request.secrets)
        )
        version = continued_version(request, source) if source.is_dir() else None
        weights = version.weights if version else source
        if weights.is_dir() and is_quantized(weights):
            raise quantized(weights, uri=model.uri)
        facts = read_model_facts(weights)
    except SourceError as error:
        raise as_stage_error(error) from error
    # Before the conversion, which needs the memory and the disk that this judges.
    refuse_too_large(request, facts)
    target = Path(request.output) / "model"
    if version is not None:
        folder = version.write(target)
        if model.chat_template is not None:
            _set_template(folder, model.chat_template)
    else:
        folder = source if source.is_dir() else converted_model(source, cache=cache)
        if model.chat_template is not None:
            link_with_template(folder, model.chat_template, target=target)
            folder = target
    tokenizer = load_tokenizer(folder)
    return BaseModel(
        folder=folder,
        facts=facts,
        tokenizer=tokenizer,
        stops=_stops(folder, tokenizer),
        parent_digest=version.digest if version else None,
    )


def _stops(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    stops = {tokenizer.eos_token_id}
    path = folder / "generation_config.json"
    if path.exists():
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        stops |= set(named) if isinstance(named, list) else {named}
    return frozenset(stop for stop in stops if stop is not None)


def link_with_template(folder: Path, template: str, *, target: Path) -> None:
    """Make `target` a model like the one in `folder`, with another chat template."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            (target / path.name).symlink_to(path.resolve())
    _set_template(target, template)


def _set_template(folder: Path, template: str) -> None:
    """Make `template` the only one that anybody can read from `folder`, whose files are links."""
    for path in folder.glob("chat_template*"):
        path.unlink()
    # Older models have their template in the tokenizer's settings.
    settings = folder / _TOKENIZER_SETTINGS
    if settings.exists():
        fields = json.loads(settings.read_text(encoding="utf-8"))
        fields.pop("chat_template", None)
        # NB: unlinked first. It is a link: writing through it would change the user's own model.
        settings.unlink()
        settings.write_text(json.dumps(fields, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / _TEMPLATE_FILE).write_text(template, encoding="utf-8")
