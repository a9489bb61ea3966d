"""README.md of a version: what the model is, how to use it, and how far to trust it.

Every number in it comes from a stage of the job. Nothing is claimed that was not measured.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.publish.lineage import lineage_of
from tunesmith_trainer.publish.markdown import ABSENT, bullets, number, section, table
from tunesmith_trainer.publish.version_facts import Evidence

_FEW_ROWS: Final = 30
_MIB: Final = 1 << 20
_USAGE: Final = """Serve it with the settings that were verified (`serving.json`):

```console
$ tunesmith serve FOLDER
```

or with vLLM itself:

```console
$ python -m vllm.entrypoints.openai.api_server --model FOLDER --served-model-name {name} \\
    --dtype {dtype} --max-model-len {length}{eager}
```

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="unused")
answer = client.chat.completions.create(
    model="{name}", messages=[{{"role": "user", "content": "…"}}], temperature=0
)
print(answer.choices[0].message.content)
```"""


def model_card(request: StageRequest, evidence: Evidence) -> str:
    """The card as Markdown: the same evidence gives the same text."""
    sections = (
        _introduction(request, evidence),
        _usage(request, evidence),
        _data(evidence),
        _training(evidence),
        _evaluation(evidence),
        _compression(evidence),
        _parity(evidence),
        _limits(request, evidence),
        _origin(request),
    )
    return "\n\n".join(sections) + "\n"


def _introduction(request: StageRequest, evidence: Evidence) -> str:
    size = f"{evidence.prepared['modelFacts']['numParameters']:,}"
    return (
        f"# {request.spec.output.model}\n\nA language model with {size} parameters, fine-tuned "
        f"from `{request.spec.model.uri}` by the Tunesmith job `{request.job}`. It ships with the "
        f"scheme `{evidence.compressed['scheme']}`. Its licence is the base model's, which "
        "Tunesmith does not know: look it up before you share this model."
    )


def _usage(request: StageRequest, evidence: Evidence) -> str:
    settings = evidence.serving
    text = _USAGE.format(
        name=request.spec.output.model,
        dtype=settings["dtype"],
        length=settings["maxModelLength"],
        eager=" --enforce-eager" if settings["enforceEager"] else "",
    )
    return section("Use", text)


def _data(evidence: Evidence) -> str:
    facts = evidence.prepared
    removed = ", ".join(f"{count:,} {cause}" for cause, count in facts["removed"].items() if count)
    return section(
        "Data",
        f"{facts['numTrainRows']:,} training and {facts['numValidationRows']:,} held-out rows of "
        f"format {facts['format']}; left out: {removed or 'none'}. `data-card.json` says more.",
        bullets(f"`{each['uri']}`" for each in evidence.data_card["sources"]),
    )


def _training(evidence: Evidence) -> str:
    facts = evidence.trained
    return section(
        "Training",
        f"{facts['method']} in {facts['precision']}, {facts['numSteps']:,} steps; the weights are "
        f"those of step {facts['bestStep']:,}, whose held-out loss was the lowest "
        f"({number(facts['bestHeldOutLoss'])}). {facts['trainableParameters']:,} parameters were "
        "trained.",
        table(
            ("setting", "value"),
            [(name, f"`{value}`") for name, value in sorted(facts["resolved"].items())],
        ),
    )


def _evaluation(evidence: Evidence) -> str:
    verdicts = [
        f"{'holds' if each['holds'] else 'does not hold'}: {each['statement']}"
        for each in evidence.evaluation["verdicts"]
    ]
    return section(
        "Evaluation",
        "Losses are nats per target token; intervals are percentile bootstraps over rows. The "
        "tuned model is compared with the base model; the compressed model, which ships, with the "
        "tuned one.",
        table(
            ("suite", "metric", "of", "compared with", "value", "interval", "rows"),
            [_measure(each) for each in evidence.results],
        ),
        "Gates:" if verdicts else "No gate was asked for.",
        bullets(verdicts),
    )


def _measure(result: EvaluationResult) -> tuple[str, ...]:
    is_open = result.low is None or result.high is None
    interval = ABSENT if is_open else f"{number(result.low)} to {number(result.high)}"
    values = (number(result.base), number(result.value), interval, f"{result.n:,}")
    return (result.suite, result.metric, result.split, *values)


def _compression(evidence: Evidence) -> str:
    facts = evidence.compressed
    rows = [
        (
            each["scheme"],
            ", ".join(f"{suite} {number(value)}" for suite, value in each["recovery"].items()),
            number(each["minRecovery"]),
            "yes" if each["accepted"] else "no",
        )
        for each in facts["tries"]
    ]
    return section(
        "Compression",
        f"Asked for {facts['asked']}, ships {facts['scheme']}: "
        f"{facts['compressedBytes'] / _MIB:,.0f} MiB instead of "
        f"{facts['mergedBytes'] / _MIB:,.0f} MiB in bf16. Recovery is the tuned model's loss "
        "divided by the compressed model's, at most 1.",
        table(("scheme", "recovery", "at least", "accepted"), rows),
    )


def _parity(evidence: Evidence) -> str:
    facts, dtype = evidence.verified, evidence.serving["dtype"]
    return section(
        "Parity",
        f"vLLM {facts['vllmVersion']} ({facts['kernel']} kernel, {dtype}) and transformers were "
        f"given {facts['numPrompts']:,} prompts: they agree on {facts['agreement']:.1%} of "
        f"{facts['numTokens']:,} tokens{_credible(facts)}, and their log-probabilities are "
        f"{facts['meanLogprobDifference']:.3f} nats apart on average. `parity.json` has every "
        "answer, `fingerprints.json` what a monitor compares with.",
    )


def _credible(facts: Mapping[str, Any]) -> str:
    """What so many tokens leave credible; an earlier release has verified without it."""
    interval = facts.get("agreementInterval")
    if not interval:
        return ""
    low, high = interval
    return f" ({low:.1%} to {high:.1%}, each end at 95%)"


def _limits(request: StageRequest, evidence: Evidence) -> str:
    served, trained = evidence.serving["maxModelLength"], request.spec.training.sequence_length
    general = (
        "It was judged on rows of the same sources as its training rows: other questions may be "
        "answered worse.\n"
        "Like every language model it can state what is not true. It has no safeguards beyond "
        "those of its base model.\n"
        f"The verified context is {served} tokens; training rows had at most {trained}."
    ).splitlines()
    found = dict.fromkeys([*evidence.warnings, *_wide_intervals(evidence.results)])
    return section("Limits", bullets([*found, *general]))


def _wide_intervals(results: Iterable[EvaluationResult]) -> list[str]:
    few = {each.suite: each.n for each in results if each.n < _FEW_ROWS}
    return [
        f"The suite {suite} has only {count} rows: its intervals are wide, and a difference within "
        "them means nothing."
        for suite, count in few.items()
    ]


def _origin(request: StageRequest) -> str:
    lineage = lineage_of(request)
    rows = {
        "base model": lineage.base_model,
        "revision or digest": lineage.base_revision,
        "data digest": lineage.data_digest,
        "seeds": json.dumps(lineage.seeds, sort_keys=True),
    }
    return section(
        "Origin",
        table(("what", "value"), [(name, f"`{value}`") for name, value in rows.items()]),
        "`lineage.json` has all hyperparameters, versions and stage keys, `manifest.json` the "
        "digest of every file.",
    )
