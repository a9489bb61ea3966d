"""What a replica is told about itself, in one environment variable.

NB: by the environment, since vLLM makes a middleware with nothing but the application.
"""

import os
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import Fraction
from tunesmith_api.modeldeployment.monitoring import Monitoring

VARIABLE: Final = "TUNESMITH_REPLICA"
Seconds = Annotated[float, Field(gt=0)]


class ReplicaSettings(ApiModel):
    """The version that a replica serves, and how it watches itself.

    Attributes:
        version: the version's name; the value of `x-tunesmith-version`.
        digest: the version's digest, proven before the engine was started.
        revision: the revision of the deployment; empty outside of one.
        model: the public name by which clients ask for the model.
        engine_model: what the engine calls it, where that is another name: an adapter's.
        fingerprints: path of the version's `fingerprints.json`.
        max_model_length: longest request in tokens; longer fingerprints are left out.
        probe_seconds: between two questions to the engine at least.
        max_probe_seconds: at most, however little is served.
        probe_token_fraction: part of the served tokens that questions may take, in between.
        progress_seconds: with requests under way and no token for so long, the engine hangs. 120 is
            what llm-d and others wait (vllm#45526): a long prefill has no token for tens of
            seconds.
        stable_url: where a candidate asks stable, to compare; None: nothing is compared.
        tap: whether requests are measured for drift.
        compare_fraction: the part of the requests for which it does.
        compare_seconds: if no client's request was compared for so long, a fixed prompt is.
    """

    version: str
    digest: str = ""
    revision: str = ""
    model: str
    engine_model: str | None = None
    fingerprints: Path
    max_model_length: Annotated[int, Field(ge=1)] | None = None
    probe_seconds: Seconds = float(Monitoring().probe_interval_seconds)
    max_probe_seconds: Seconds = float(Monitoring().max_probe_interval_seconds)
    probe_token_fraction: Fraction = Monitoring().probe_token_fraction
    progress_seconds: Seconds = 120.0
    tap: bool = True
    stable_url: str | None = None
    compare_fraction: Fraction = 0.1
    compare_seconds: Seconds = 5.0

    @property
    def asked_model(self) -> str:
        """The name for requests to the engine itself."""
        return self.engine_model or self.model

    @classmethod
    def from_environment(cls) -> Self:
        """Read what `environment` wrote.

        Raises:
            RuntimeError: this process was not started by `tunesmith_serving serve`.
            ValidationError: the variable holds something else.
        """
        text = os.environ.get(VARIABLE)
        if text is None:
            raise RuntimeError(
                f"{VARIABLE} is not set: start the server by `python -m tunesmith_serving serve`"
            )
        return cls.model_validate_json(text)

    def environment(self) -> dict[str, str]:
        """The variable that hands these settings over."""
        return {VARIABLE: self.model_dump_json(by_alias=True, exclude_none=True)}
