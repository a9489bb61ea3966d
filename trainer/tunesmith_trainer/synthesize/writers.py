"""Opens who writes and who scores: endpoints, or a model in vLLM on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_api.endpoint import Endpoint
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.synthesis import Synthesis
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_model
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.chat_client import KeptReplies, open_client
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.prepare.base_model import link_with_template
from tunesmith_trainer.prepare.gguf import converted_model
from tunesmith_trainer.synthesize.language_models import EndpointModel, LanguageModel
from tunesmith_trainer.synthesize.local_model import LocalModel
from tunesmith_trainer.synthesize.rounds import Writers

_FIELD: Final = "dataset.synthesis"


@contextmanager
def opened_writers(
    request: StageRequest, settings: Synthesis, *, base: Path, reporter: Reporter
) -> Iterator[Writers]:
    """The writers of the job, until the block ends; `base` is the job's prepared model.

    Raises:
        StageError: a secret is missing, or a model cannot be fetched or loaded.
    """
    generator = _generator(request, settings, base=base, reporter=reporter)
    try:
        yield Writers(generator, _critic(request, settings, generator))
    finally:
        generator.close()


def _generator(
    request: StageRequest, settings: Synthesis, *, base: Path, reporter: Reporter
) -> LanguageModel:
    endpoint = settings.generator.endpoint
    if endpoint is not None:
        return _behind(request, endpoint, field=f"{_FIELD}.generator.endpoint")
    model = settings.generator.model
    folder = base if model is None else _fetched(request, model, reporter)
    if not load_tokenizer(folder).chat_template:
        raise BadInputError(
            Reason.CHAT_TEMPLATE_MISSING,
            f"{_FIELD}.generator.model: {(model or request.spec.model).uri} has no chat template, "
            "and is asked in conversations; set chatTemplate there, or take an instruct model",
        )
    return LocalModel(
        folder,
        name=(model or request.spec.model).uri,
        kept=KeptReplies(Path(request.output) / "replies"),
        reporter=reporter,
    )


def _fetched(request: StageRequest, model: ModelSource, reporter: Reporter) -> Path:
    """The model as a folder of safetensors, with the chat template that the job gives it."""
    reporter.progress("fetching the generator")
    cache = Path(request.cache)
    try:
        source = fetch_model(
            model, base=Path(request.base), cache=cache, secrets=Path(request.secrets)
        )
    except SourceError as error:
        raise as_stage_error(error) from error
    folder = source if source.is_dir() else converted_model(source, cache=cache)
    if model.chat_template is None:
        return folder
    target = Path(request.output) / "generator"
    link_with_template(folder, model.chat_template, target=target)
    return target


def _critic(
    request: StageRequest, settings: Synthesis, generator: LanguageModel
) -> LanguageModel | None:
    if not settings.asks_a_critic:
        return None
    endpoint = settings.critic.endpoint
    if endpoint is None:
        return generator
    return _behind(request, endpoint, field=f"{_FIELD}.critic.endpoint")


def _behind(request: StageRequest, endpoint: Endpoint, *, field: str) -> EndpointModel:
    return EndpointModel(endpoint, client=open_client(request, endpoint, field=field))
