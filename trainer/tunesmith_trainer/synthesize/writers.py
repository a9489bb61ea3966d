"""Opens who writes and who scores: endpoints, or a model in vLLM on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith_api.endpoint import Endpoint
from tunesmith_api.finetunejob.synthesis import Synthesis
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_trainer.chat_client import open_client
from tunesmith_trainer.synthesize.language_models import EndpointModel, LanguageModel
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
    raise NotImplementedError


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
