"""verify: load what compress made as it will be served, ask, judge, keep the proof.

Reads the model and `reference.json` of `compress`, and base and adapter where that is published.
Artifacts: `parity` and `fingerprints`, and beside a merged model `adapterParity` and
`adapterFingerprints`. Facts: `parity_report.facts_of`, also below `adapter`; their `settings`
become the version's `serving.json`; of a quantized model `speed`, beside the same model
unquantized, whose weights are those of `distill`, or of the base; and where tokens are guessed, by
the model of `draft` or not, `guessing`, beside the same model without. A model whose answers
differ, or that runs on a kernel known to be wrong, ends the job with `ServingParityFailed`, and
the proof is kept all the same.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact
from tunesmith_engine.stages.catalog import COMPRESS, DISTILL, DRAFT, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_serving.platforms import DISTRIBUTIONS, installed_platform, read_capability
from tunesmith_serving.processor import read_flags
from tunesmith_serving.settings import ServingSettings, read_config, settings_for
from tunesmith_serving.verify.bias_pairs import BiasPair
from tunesmith_serving.verify.guessing import Guessing, SameTokens
from tunesmith_serving.verify.parity import (
    CONFIDENCE,
    ENOUGH_TOKENS,
    MARGIN_ALLOWANCE,
    Comparison,
    ParityVerdict,
    judge,
)
from tunesmith_serving.verify.parity_report import (
    AnswerTexts,
    EngineRun,
    answers_record,
    facts_of,
    fingerprints_record,
    parity_record,
)
from tunesmith_serving.verify.reference_generations import (
    KnownChat,
    ReferenceGeneration,
    read_reference,
)
from tunesmith_serving.verify.speed import Rates, Speed
from tunesmith_serving.verify.vllm_engine import AdapterFolder, VllmEngine


def verify(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Hold vLLM's answers against the reference's, for all that the version is served as.

    Raises:
        BadInputError: no prompt fits into serving.maxModelLength.
        VerdictError: the two engines do not answer alike.
    """
    judged = [judge_subject(request, subject, reporter) for subject in subjects_of(request)]
    first = judged[0]
    facts = facts_of(first.verdict, run=first.run)
    for each in judged[1:]:
        facts["adapter"] = facts_of(each.verdict, run=each.run)
    holds = all(each.holds for each in judged)
    guessing = compared_guessing(first, reporter) if holds else None
    if guessing is not None:
        facts["guessing"] = guessing.as_json()
    plain = guessing.plain if guessing else first.run.rates
    speed = compared_speed(request, first, plain, reporter) if holds and plain else None
    if speed is not None:
        facts["speed"] = speed.as_json()
    measured = [each for each in (guessing, speed) if each is not None]
    platform = first.run.settings.platform
    outcome = StageOutcome(
        message=f"vLLM agrees on {_counted(first.verdict.worse)}, "
        f"{first.verdict.total.mean_difference:.3f} nats apart"
        f"{''.join(f'; {each.told}' for each in measured)}",
        artifacts=[artifact for each in judged for artifact in each.artifacts],
        facts=facts,
        versions={
            name: version(name) for name in (DISTRIBUTIONS[platform], "torch", "transformers")
        },
        warnings=list(
            dict.fromkeys(
                [
                    *(warning for each in judged for warning in each.warnings),
                    *(warning for each in measured for warning in each.warnings),
                ]
            )
        ),
    )
    for each in judged:
        if not each.holds:
            eager = each.run.settings.enforce_eager
            message = refusal(each.verdict, faults=each.run.faults, enforce_eager=eager)
            raise VerdictError(Reason.SERVING_PARITY_FAILED, message, findings=outcome)
    if guessing is not None and not changes_no_answer(request, guessing):
        raise VerdictError(Reason.SERVING_PARITY_FAILED, guessing.same.refusal, findings=outcome)
    return outcome


def changes_no_answer(request: StageRequest, guessing: Guessing) -> bool:
    """Whether guessed tokens are those that come without, within the bounds of the parity."""
    bounds = request.spec.verification
    return guessing.same.holds(
        min_agreement=bounds.min_agreement,
        max_margin=MARGIN_ALLOWANCE * bounds.max_logprob_difference,
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """One way in which a version is served, and what it must answer there.

    `documents` are the names of the artifacts that say how it answers.
    """

    folder: Path
    reference: Path
    documents: tuple[str, str, str]
    adapter: AdapterFolder | None = None
    draft: Path | None = None
    is_timed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one."""

    subject: Subject
    run: EngineRun
    verdict: ParityVerdict
    artifacts: list[Artifact]
    warnings: list[str]

    @property
    def holds(self) -> bool:
        """Whether it can be served."""
        return self.verdict.holds and not self.run.faults


def subjects_of(request: StageRequest) -> list[Subject]:
    """What is judged; the facts are those of the first: of an adapter only if it is alone."""
    compressed, output = request.inputs[COMPRESS.name], request.spec.output
    merged = Subject(
        folder=local_path(compressed.artifact("compressed")),
        reference=local_path(compressed.artifact("reference")),
        documents=("parity", "fingerprints", "parity-answers"),
        draft=draft_folder(request),
        is_timed=is_timed(request),
    )
    if not output.has_adapter:
        return [merged]
    is_alone = output.artifact == "adapter"
    adapter = Subject(
        # The base as vLLM will load it, and not the merged model: their roundings differ.
        folder=local_path(request.inputs[PREPARE.name].artifact("model")),
        reference=local_path(compressed.artifact("adapterReference")),
        documents=merged.documents
        if is_alone
        else ("adapterParity", "adapterFingerprints", "adapter-parity-answers"),
        adapter=AdapterFolder(
            path=local_path(request.inputs[TRAIN.name].artifact("tuned")),
            rank=request.spec.training.lora.rank,
        ),
    )
    return [adapter] if is_alone else [merged, adapter]


def draft_folder(request: StageRequest) -> Path | None:
    """Where the small model lies that guesses, if the job has one."""
    drafted = request.inputs.get(DRAFT.name)
    return local_path(drafted.artifact("draft")) if drafted else None


def is_timed(request: StageRequest) -> bool:
    """Whether there is something whose speed is to be compared."""
    spec = request.spec
    is_compared = scheme_of(request) != "none" or spec.serving.speculative is not None
    return spec.verification.measure_speed and is_compared


def scheme_of(request: StageRequest) -> str:
    """In which the model ships."""
    return str(request.inputs[COMPRESS.name].facts.get("scheme", "none"))


def compared_guessing(first: Judged, reporter: Reporter) -> Guessing | None:
    """What the same model says without guesses, and how fast; None where nothing was guessed."""
    run, speculative = first.run, first.run.settings.speculative
    if run.rates is None or run.guesses is None or speculative is None:
        return None
    reporter.progress("loading the model without guesses in vLLM", step=0, total_steps=1)
    engine = VllmEngine(first.subject.folder, settings=run.settings.without_guesses())
    views = engine.views_of(
        [reference.prompt_ids for reference in run.references],
        [answer.token_ids for answer in run.answers],
    )
    reporter.progress("measuring tokens/s without guesses", step=0, total_steps=1)
    plain = rates_of(engine, run)
    engine.close()
    return Guessing(
        speculative,
        run.guesses,
        SameTokens.of(views, tie=run.tie),
        guessing=run.rates,
        plain=plain,
    )


def compared_speed(
    request: StageRequest, first: Judged, compressed: Rates, reporter: Reporter
) -> Speed | None:
    """How fast the same model is unquantized, both without guesses; None of one that is so."""
    if scheme_of(request) == "none":
        return None
    reporter.progress("loading the unquantized model in vLLM", step=0, total_steps=1)
    settings = first.run.settings.without_guesses()
    engine = VllmEngine(unquantized_folder(request), settings=settings)
    reporter.progress("measuring tokens/s unquantized", step=0, total_steps=1)
    rates = rates_of(engine, first.run)
    engine.close()
    return Speed(scheme_of(request), compressed=compressed, unquantized=rates)


def rates_of(engine: VllmEngine, run: EngineRun) -> Rates:
    """How fast `engine` answers the prompts of `run`."""
    prompts = [reference.prompt_ids for reference in run.references]
    return Rates.of(engine, prompts, max_length=run.settings.max_model_length)


def unquantized_folder(request: StageRequest) -> Path:
    """Weights of the shape of those that were quantized."""
    distilled = request.inputs.get(DISTILL.name)
    for artifact in distilled.artifacts if distilled else ():
        if artifact.name == "distilled":
            return local_path(artifact)
    return local_path(request.inputs[PREPARE.name].artifact("model"))


def judge_subject(request: StageRequest, subject: Subject, reporter: Reporter) -> Judged:
    """Ask vLLM all prompts that fit, judge, and write down both."""
    bounds, platform = request.spec.verification, installed_platform()
    settings = settings_for(
        request.spec.serving,
        name=request.spec.output.model,
        folder=subject.folder,
        platform=platform,
        flags=read_flags(),
        capability=read_capability(),
        draft=subject.draft,
    )
    reference = read_reference(subject.reference)
    given = reference.prompts
    fitting = prompts_that_fit(given, max_model_length=settings.max_model_length)
    chats = [chat for chat in reference.chats if len(chat.prompt_ids) < settings.max_model_length]
    pairs = [pair for pair in reference.bias_pairs if pair.fits(settings.max_model_length)]
    run = ask_vllm(subject, fitting, chats=chats, pairs=pairs, settings=settings, reporter=reporter)
    verdict = judge(
        [answer.views for answer in run.answers],
        tie=run.tie,
        min_agreement=bounds.min_agreement,
        max_difference=bounds.max_logprob_difference,
    )
    contents = (
        parity_record(verdict, run=run),
        fingerprints_record(verdict, run=run),
        answers_record(verdict, run=run),
    )
    artifacts = []
    for name, content in zip(subject.documents, contents, strict=True):
        path = Path(request.output) / f"{name}.json"
        write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1))
        artifacts.append(artifact_of(name, path))
    warnings = parity_warnings(len(given), len(fitting), judged=verdict.worse)
    return Judged(subject, run, verdict, artifacts, warnings)


def prompts_that_fit(
    references: Sequence[ReferenceGeneration], *, max_model_length: int
) -> list[ReferenceGeneration]:
    """The prompts that, with their answers and one token more, are served.

    The one more is generated when the answer is forced.

    Raises:
        BadInputError: there is none.
    """
    fitting = [reference for reference in references if len(reference) < max_model_length]
    if not fitting:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"serving.maxModelLength is {max_model_length}, and the shortest of "
            f"{len(references)} prompts has {min(map(len, references))} tokens with its "
            "answer, so nothing can be verified. Raise serving.maxModelLength.",
        )
    return fitting


def ask_vllm(
    subject: Subject,
    references: Sequence[ReferenceGeneration],
    *,
    chats: Sequence[KnownChat],
    pairs: Sequence[BiasPair],
    settings: ServingSettings,
    reporter: Reporter,
) -> EngineRun:
    """Load the model as it will be served; ask every prompt in both ways, `chats` and `pairs`."""
    total = len(references)
    reporter.progress("loading the model in vLLM", step=0, total_steps=total)
    started = time.monotonic()
    engine = VllmEngine(
        subject.folder, settings=settings, adapter=subject.adapter, draft=subject.draft
    )
    load_seconds = round(time.monotonic() - started, 3)
    reporter.progress("asking vLLM the reference prompts", step=0, total_steps=total)
    answers, guesses = engine.ask(references), engine.guesses()
    reporter.progress("vLLM has answered", step=total, total_steps=total)
    run = EngineRun(
        settings=settings,
        references=references,
        answers=answers,
        texts=[
            AnswerTexts(
                prompt=engine.text(reference.prompt_ids),
                reference=engine.text(reference.answer_ids),
                served=engine.text(answer.token_ids),
            )
            for reference, answer in zip(references, answers, strict=True)
        ],
        kernels=engine.kernels(),
        config=read_config(subject.folder),
        load_seconds=load_seconds,
        chats=chats,
        rendered=engine.rendered(chats) if chats else [],
        pairs=engine.judged_pairs(pairs) if pairs else [],
        guesses=guesses,
    )
    if subject.is_timed:
        reporter.progress("measuring tokens/s", step=total, total_steps=total)
        run = replace(run, rates=rates_of(engine, run))
    # Before the next one is loaded: two at once need not fit.
    engine.close()
    return run


def refusal(verdict: ParityVerdict, *, faults: list[str], enforce_eager: bool) -> str:
    """What was found, which bounds it breaks, and what to do."""
    # A wrong kernel explains any difference there is, so that its numbers would only mislead.
    if faults:
        return " ".join(faults)
    if enforce_eager:
        advice = (
            "Read the answers in parity-answers.json; with compression.quantize.scheme: none no "
            "quantized kernel is used."
        )
    else:
        advice = "Set serving.enforceEager: true, since vLLM's compiled build is what was judged."
    broken = ""
    if verdict.broken:
        place = verdict.broken[0]
        worst = verdict.prompts[place]
        broken = (
            f", and {len(verdict.broken)} of {len(verdict.prompts)} prompts are answered "
            f"otherwise, such as number {place + 1}: {worst.forced.mean_difference:.2f} nats "
            f"apart, its own token {worst.margin:.2f} above"
        )
    worse = verdict.worse
    return (
        f"vLLM does not answer as transformers does: agreement {worse.agreement:.3f} (at least "
        f"{verdict.min_agreement:g}) from {_counted(worse)}, log-probabilities "
        f"{verdict.total.mean_difference:.3f} nats apart (at most {verdict.max_difference:g})"
        f"{broken}. {advice}"
    )


def parity_warnings(num_given: int, num_asked: int, *, judged: Comparison) -> list[str]:
    """What makes the verdict less sharp than it looks."""
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


def _counted(judged: Comparison) -> str:
    """From how many tokens an agreement is, and what they leave credible."""
    low, high = judged.interval
    return (
        f"{judged.num_agreed} of {judged.num_tokens} tokens ({low:.3f} to {high:.3f} at "
        f"{CONFIDENCE:.0%})"
    )
