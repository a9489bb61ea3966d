"""What the stage `compress` holds while it goes through its schemes, and what it tells of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_trainer.compress.recovery_gate import SchemeTrial
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.distributions import Distributions
from tunesmith_trainer.evaluate.generation import pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.scored_rows import ScoredRows
from tunesmith_trainer.evaluate.suites import Findings, score_suites
from tunesmith_trainer.evaluate.trust import TrustMeasures, TrustTests
from tunesmith_trainer.versions import library_versions

LIBRARIES = ("torch", "transformers", "peft", "llmcompressor", "compressed-tensors")


@dataclass(slots=True)
class CompressionRun:
    """What the stage holds while it goes down its list of schemes."""

    request: StageRequest
    reporter: Reporter
    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    trust: TrustTests = field(default_factory=TrustTests)
    # Of the last model that was measured, beside the merged one.
    findings: Findings | None = None
    merged_trust: TrustMeasures | None = None
    warnings: list[str] = field(default_factory=list)
    trials: list[SchemeTrial] = field(default_factory=list)
    # Of the tuned model, where the divergence of what is made of it is asked for.
    distributions: Distributions | None = None
    # The one that ships; while schemes are tried, the last of them.
    shipped: SchemeTrial | None = None
    group_size: int | None = None
    merged_bytes: int = 0

    @classmethod
    def of(cls, request: StageRequest, reporter: Reporter) -> "CompressionRun":
        """The suites are those of `evaluate`, row by row: its losses prove the merge."""
        scored = ScoredRows.load(request)
        trust = TrustTests.load(request, scored.prepared, scored.tokenizer)
        return cls(request, reporter, scored.prepared, scored.tokenizer, scored.suites, trust)

    @property
    def spec(self) -> FineTuneJobSpec:
        return self.request.spec

    @property
    def merged(self) -> Path:
        return Path(self.request.output) / "merged"

    @property
    def adapter_reference(self) -> Path:
        return Path(self.request.output) / "adapter-reference.json"

    @property
    def compressed(self) -> Path:
        return Path(self.request.output) / "compressed"

    def say(self, message: str, done: int | None = None, total: int | None = None) -> None:
        self.reporter.progress(message, step=done, total_steps=total)

    def score(self, model: PreTrainedModel, *, name: str) -> dict[str, RowLosses]:
        return score_suites(
            model,
            self.suites,
            pad_id=pad_id_of(self.tokenizer),
            say=lambda suite, done, total: self.say(f"{name}: {suite}", done, total),
        )

    def measure_trust(self, model: PreTrainedModel, *, name: str) -> TrustMeasures:
        return self.trust.measure(
            model,
            say=lambda suite, done, total: self.say(f"{name}: {suite}", done, total),
        )

    def outcome(
        self, results: Sequence[EvaluationResult], *, artifacts: dict[str, Path]
    ) -> StageOutcome:
        """What was found with the scheme that ships, or with the last that was tried."""
        last = self.shipped or self.trials[-1]
        resolved: dict[str, JsonValue] = {}
        if self.group_size is not None and last.scheme == "W4A16":
            resolved["compression.quantize.groupSize"] = self.group_size
        return StageOutcome(
            message=f"{last.scheme}: recovery {last.lowest:.4f}, {last.num_bytes:,} bytes "
            f"(bf16: {self.merged_bytes:,})",
            artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
            evaluation=list(results),
            facts={
                "scheme": last.scheme,
                "asked": self.spec.compression.quantize.scheme,
                "dtype": "float32",
                "tries": [trial.as_json() for trial in self.trials],
                "mergedBytes": self.merged_bytes,
                "compressedBytes": last.num_bytes,
                **(self.findings.record if self.findings else {}),
                "resolved": resolved,
            },
            versions=library_versions(*LIBRARIES),
            warnings=list(self.warnings),
        )
