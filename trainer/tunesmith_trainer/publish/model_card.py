"""README.md of a version: what the model is, how to use it, and how far to trust it.

Every number in it comes from a stage of the job. Nothing is claimed that was not measured.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tunesmith_api.status import EvaluationResult
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.publish.evidence import Evidence
from tunesmith_trainer.publish.lineage import lineage_of

_FEW_ROWS: Final = 30
_MIB: Final = 1 << 20
_NONE: Final = "–"


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
    shape = evidence.prepared.get("modelFacts", {})
    size = f", {shape['numParameters']:,} parameters" if "numParameters" in shape else ""
    return "\n".join(
        [
            f"# {request.spec.output.model}",
            "",
            (
                f"A language model{size}, fine-tuned from `{request.spec.model.uri}` by the Tunesmith "
                f"job `{request.job}`. It ships with the scheme `{evidence.compressed['scheme']}`. "
                "Its licence is the base model's, which Tunesmith does not know: look it up before "
                "you share this model."
            ),
        ]
    )


def _usage(request: StageRequest, evidence: Evidence) -> str:
    name, settings = request.spec.output.model, evidence.serving
    eager = " --enforce-eager" if settings.get("enforceEager") else ""
    return f"""## Use

Serve it with the settings that were verified (`serving.json`):

```console
$ tunesmith serve FOLDER
```

or with vLLM itself:

```console
$ python -m vllm.entrypoints.openai.api_server --model FOLDER --served-model-name {name} \\
    --dtype {settings.get("dtype", "auto")} --max-model-len {settings.get("maxModelLength")}{eager}
```

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="unused")
answer = client.chat.completions.create(
    model="{name}", messages=[{{"role": "user", "content": "…"}}], temperature=0
)
print(answer.choices[0].message.content)
```"""


def _data(evidence: Evidence) -> str:
    facts, card = evidence.prepared, evidence.data_card
    removed = ", ".join(f"{count:,} {cause}" for cause, count in facts.get("removed", {}).items())
    sources = [f"- `{each['uri']}`" for each in card.get("sources", []) if "uri" in each]
    return "\n".join(
        [
            "## Data",
            "",
            (
                f"{facts['numTrainRows']:,} training and {facts['numValidationRows']:,} held-out rows "
                f"of format {facts['format']}; left out: {removed or 'none'}. `data-card.json` says "
                "more."
            ),
            *(["", *sources] if sources else []),
        ]
    )


def _training(evidence: Evidence) -> str:
    facts = evidence.trained
    settings = [(name, f"`{value}`") for name, value in sorted(facts.get("resolved", {}).items())]
    return "\n".join(
        [
            "## Training",
            "",
            (
                f"{facts['method']} in {facts['precision']}, {facts['numSteps']:,} steps; the weights "
                f"are those of step {facts['bestStep']:,}, whose held-out loss was the lowest "
                f"({_number(facts['bestHeldOutLoss'])}). {facts['trainableParameters']:,} parameters "
                "were trained."
            ),
            "",
            _table(("setting", "value"), settings),
        ]
    )


def _evaluation(evidence: Evidence) -> str:
    rows = [
        (
            each.suite, each.metric, each.split, _number(each.base), _number(each.value),
            _interval(each), f"{each.n:,}",
        )
        for each in evidence.results
    ]  # fmt: skip
    header = ("suite", "metric", "of", "compared with", "value", "interval", "rows")
    verdicts = [
        f"- {'holds' if each['holds'] else 'does not hold'}: {each['statement']}"
        for each in evidence.evaluation.get("verdicts", [])
    ]
    return "\n".join(
        [
            "## Evaluation",
            "",
            (
                "Losses are nats per target token; intervals are percentile bootstraps over rows. The "
                "tuned model is compared with the base model, the compressed model, which ships, with "
                "the tuned one."
            ),
            "",
            _table(header, rows),
            *(["", "Gates:", "", *verdicts] if verdicts else []),
        ]
    )


def _compression(evidence: Evidence) -> str:
    facts = evidence.compressed
    rows = [
        (
            each["scheme"],
            ", ".join(f"{suite} {_number(value)}" for suite, value in each["recovery"].items()),
            _number(each["minRecovery"]),
            "yes" if each["accepted"] else "no",
        )
        for each in facts.get("tries", [])
    ]
    return "\n".join(
        [
            "## Compression",
            "",
            (
                f"Asked for {facts['asked']}, ships {facts['scheme']}: "
                f"{facts['compressedBytes'] / _MIB:,.0f} MiB instead of "
                f"{facts['mergedBytes'] / _MIB:,.0f} MiB in bf16. Recovery is the tuned model's loss "
                "divided by the compressed model's, at most 1."
            ),
            "",
            _table(("scheme", "recovery", "at least", "accepted"), rows),
        ]
    )


def _parity(evidence: Evidence) -> str:
    facts = evidence.verified
    return "\n".join(
        [
            "## Parity",
            "",
            (
                f"vLLM {facts['vllmVersion']} ({facts['kernel']} kernel, "
                f"{evidence.serving.get('dtype')}) and transformers were given {facts['numPrompts']:,} prompts: they agree on "
                f"{facts['agreement']:.1%} of {facts['numTokens']:,} tokens, and their "
                f"log-probabilities are {facts['meanLogprobDifference']:.3f} nats apart on average. "
                "`parity.json` has every answer, `fingerprints.json` what a monitor compares with."
            ),
        ]
    )


def _limits(request: StageRequest, evidence: Evidence) -> str:
    limits = [*dict.fromkeys(evidence.warnings), *_wide_intervals(evidence.results)]
    limits += [
        (
            "It was judged on rows of the same sources as its training rows: other questions may be "
            "answered worse."
        ),
        (
            "Like every language model it can state what is not true. It has no safeguards beyond "
            "those of its base model."
        ),
        (
            f"The verified context is {evidence.serving.get('maxModelLength')} tokens; training rows "
            f"had at most {request.spec.training.sequence_length}."
        ),
    ]
    return "\n".join(["## Limits", "", *(f"- {each}" for each in limits)])


def _wide_intervals(results: Iterable[EvaluationResult]) -> list[str]:
    few = {each.suite: each.n for each in results if each.n < _FEW_ROWS}
    return [
        f"The suite {suite} has only {count} rows: its intervals are wide, and a difference within "
        "them means nothing."
        for suite, count in few.items()
    ]


def _origin(request: StageRequest) -> str:
    lineage = lineage_of(request)
    rows = [
        ("base model", f"`{lineage.base_model}`"),
        ("revision or digest", f"`{lineage.base_revision}`"),
        ("data digest", f"`{lineage.data_digest}`"),
        ("seeds", f"`{json.dumps(lineage.seeds, sort_keys=True)}`"),
    ]
    return "\n".join(
        [
            "## Origin",
            "",
            _table(("what", "value"), rows),
            "",
            (
                "`lineage.json` has all hyperparameters, versions and stage keys, `manifest.json` the "
                "digest of every file."
            ),
        ]
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(each) for each in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: Any) -> str:
    return _NONE if value is None else f"{float(value):.4g}"


def _interval(result: EvaluationResult) -> str:
    if result.low is None or result.high is None:
        return _NONE
    return f"{_number(result.low)} to {_number(result.high)}"
