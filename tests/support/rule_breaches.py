"""What breaks each rule of a FineTuneJob, and the nearest thing that keeps it."""

from typing import Any

from artifact_breaches import ARTIFACT_BREACHES
from explain_breaches import EXPLAIN_BREACHES
from export_breaches import EXPORT_BREACHES
from fairness_breaches import FAIRNESS_BREACHES
from prune_breaches import PRUNE_BREACHES
from remedy_breaches import REMEDY_BREACHES
from robustness_breaches import ROBUSTNESS_BREACHES
from search_breaches import SEARCH_BREACHES
from secret_breaches import SECRET, SECRET_BREACHES, TASK
from training_breaches import TRAIN, TRAINING_BREACHES

STORE = {"uri": "s3://jobs/a"}
JUDGE = {"endpoint": {"url": "https://api.example.com/v1", "model": "large"}}
REMOTE = {"model": "m", "uri": "s3://models"}

# What breaks a rule, the field that the error points at, and the nearest thing that keeps it.
BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    **ARTIFACT_BREACHES,
    **EXPLAIN_BREACHES,
    **EXPORT_BREACHES,
    **FAIRNESS_BREACHES,
    **TRAINING_BREACHES,
    **REMEDY_BREACHES,
    **ROBUSTNESS_BREACHES,
    **PRUNE_BREACHES,
    **SEARCH_BREACHES,
    "budget-has-a-bound": [
        (
            {"training": {"forgettingBudget": {}}},
            "spec.training.forgettingBudget",
            {"training": {"forgettingBudget": {"maxKl": 0.5}}},
        )
    ],
    "one-bound-per-gate": [
        (
            {"evaluation": {"gates": [{}]}},
            "spec.evaluation.gates[0]",
            {"evaluation": {"gates": []}},
        ),
        (
            {"evaluation": {"gates": [{"max": 0}, {"min": 0, "max": 0}]}},
            "spec.evaluation.gates[1]",
            {"evaluation": {"gates": [{"max": 0}, {"min": 0}]}},
        ),
    ],
    "general-suite-has-loss": [
        (
            {"evaluation": {"gates": [{"suite": "general", "metric": "chrf", "min": 9}]}},
            "spec.evaluation.gates[0].metric",
            {"evaluation": {"gates": [{"suite": "general", "metric": "perplexity", "max": 9}]}},
        )
    ],
    "preference-suite-and-metrics": [
        (
            {
                "training": {"objective": "dpo"},
                "evaluation": {"gates": [{"suite": "preference", "min": 0}]},
            },
            "spec.evaluation.gates[0].metric",
            {
                "training": {"objective": "dpo"},
                "evaluation": {"gates": [{"suite": "preference", "metric": "margin", "min": 0}]},
            },
        ),
    ],
    "preference-rows-and-objective": [
        (
            {"dataset": {"train": TRAIN, "format": "preference"}},
            "spec.dataset.format",
            {
                "dataset": {"train": TRAIN, "format": "preference"},
                "training": {"objective": "dpo"},
            },
        ),
        (
            {"dataset": {"train": TRAIN, "format": "text"}, "training": {"objective": "dpo"}},
            "spec.dataset.format",
            {"dataset": {"train": TRAIN}, "training": {"objective": "dpo"}},
        ),
    ],
    "preference-gates-and-objective": [
        (
            {"evaluation": {"gates": [{"suite": "preference", "metric": "margin", "min": 0}]}},
            "spec.evaluation.gates",
            {
                "training": {"objective": "dpo"},
                "evaluation": {"gates": [{"suite": "preference", "metric": "margin", "min": 0}]},
            },
        )
    ],
    "gate-metric-is-measured": [
        (
            {
                "evaluation": {
                    "generation": {"metric": "none"},
                    "gates": [{"metric": "rougeL", "min": 0.2}],
                }
            },
            "spec.evaluation.gates",
            {
                "evaluation": {
                    "generation": {"metric": "rougeL"},
                    "gates": [{"metric": "rougeL", "min": 0.2}],
                }
            },
        )
    ],
    "suite-name-is-free": [
        (
            {"evaluation": {"suites": [TASK, TASK | {"name": "judge"}]}},
            "spec.evaluation.suites[1].name",
            {"evaluation": {"suites": [TASK, TASK | {"name": "judged"}]}},
        )
    ],
    "suite-names-differ": [
        (
            {"evaluation": {"suites": [TASK, TASK]}},
            "spec.evaluation.suites",
            {"evaluation": {"suites": [TASK, TASK | {"name": "arc2"}]}},
        )
    ],
    "judge-has-win-rate": [
        (
            {"evaluation": {"judge": JUDGE, "gates": [{"suite": "judge", "min": 0.5}]}},
            "spec.evaluation.gates[0].metric",
            {
                "evaluation": {
                    "judge": JUDGE,
                    "gates": [{"suite": "judge", "metric": "winRate", "min": 0.5}],
                }
            },
        )
    ],
    "gate-suite-is-measured": [
        (
            {"evaluation": {"gates": [{"suite": "arc", "metric": "acc", "minDelta": 0}]}},
            "spec.evaluation.gates",
            {
                "evaluation": {
                    "suites": [TASK],
                    "gates": [{"suite": "arc", "metric": "acc", "minDelta": 0}],
                }
            },
        ),
        (
            {"evaluation": {"gates": [{"suite": "judge", "metric": "winRate", "min": 0.5}]}},
            "spec.evaluation.gates",
            {
                "evaluation": {
                    "judge": JUDGE,
                    "gates": [{"suite": "judge", "metric": "winRate", "min": 0.5}],
                }
            },
        ),
    ],
    "gate-metric-is-that-of-its-suite": [
        (
            {
                "evaluation": {
                    "suites": [TASK | {"metric": "acc_norm"}],
                    "gates": [{"suite": "arc", "metric": "acc", "min": 0.5}],
                }
            },
            "spec.evaluation.gates",
            {
                "evaluation": {
                    "suites": [TASK | {"metric": "acc"}],
                    "gates": [{"suite": "arc", "metric": "acc", "min": 0.5}],
                }
            },
        )
    ],
    "answers-for-other-models": [
        (
            {"evaluation": {"generation": {"metric": "none"}, "judge": JUDGE}},
            "spec.evaluation.generation.metric",
            {"evaluation": {"generation": {"metric": "chrf"}, "judge": JUDGE, "reference": JUDGE}},
        )
    ],
    "micro-batch-within-batch": [
        (
            {"training": {"batch": {"size": 2, "microBatchSize": 3}}},
            "spec.training.batch.microBatchSize",
            {"training": {"batch": {"size": 3, "microBatchSize": 3}}},
        )
    ],
    "warmup-and-decay-within-the-steps": [
        (
            {"training": {"schedule": {"type": "wsd", "warmupRatio": 0.5, "decayRatio": 0.75}}},
            "spec.training.schedule.decayRatio",
            {"training": {"schedule": {"type": "wsd", "warmupRatio": 0.5, "decayRatio": 0.5}}},
        )
    ],
    "cycles-of-a-decay": [
        (
            {"training": {"schedule": {"type": "constant", "cycles": 2}}},
            "spec.training.schedule.cycles",
            {"training": {"schedule": {"type": "linear", "cycles": 2}}},
        )
    ],
    "dora-is-published-merged": [
        (
            {
                "training": {"lora": {"useDora": True}},
                "output": {"model": "m", "artifact": "both"},
            },
            "spec.output.artifact",
            {
                "training": {"lora": {"useDora": True}},
                "output": {"model": "m", "artifact": "merged"},
            },
        )
    ],
    "batch-divides-by-workers": [
        ({"resources": {"workers": 3}}, "spec.training.batch.size", {"resources": {"workers": 4}})
    ],
    "batch-divides-by-min-workers": [
        (
            {"resources": {"workers": 4, "minWorkers": 3}},
            "spec.training.batch.size",
            {"resources": {"workers": 4, "minWorkers": 2}},
        )
    ],
    "min-workers-within-workers": [
        (
            {"resources": {"workers": 2, "minWorkers": 4}},
            "spec.resources.minWorkers",
            {"resources": {"workers": 4, "minWorkers": 4}},
        )
    ],
    "shards-keep-their-workers": [
        (
            {
                "resources": {"workers": 4, "minWorkers": 2},
                "training": {"parallelism": "fsdp"},
            },
            "spec.resources.minWorkers",
            {"resources": {"workers": 4, "minWorkers": 2}, "training": {"parallelism": "ddp"}},
        )
    ],
    "revision-of-the-hub": [
        (
            {"model": {"uri": "s3://a/b", "revision": "main"}},
            "spec.model.revision",
            {"model": {"uri": "hf://a/b", "revision": "main"}},
        )
    ],
    "secret-for-remote-sources": SECRET_BREACHES,
    "hub-outputs-name-a-repository": [
        (
            {"output": {"model": "a", "uri": "hf://b", **SECRET}},
            "spec.output.uri",
            {"output": {"model": "a", "uri": "hf://b/c@next", **SECRET}},
        ),
    ],
    "registry-outputs-name-a-repository": [
        (
            {"output": {"model": "a", "uri": "oci://registry.example"}},
            "spec.output.uri",
            {"output": {"model": "a", "uri": "oci://registry.example:5000/b/c:latest"}},
        ),
    ],
    "hub-outputs-need-a-secret": [
        (
            {"output": {"model": "a", "uri": "hf://b/c"}},
            "spec.output.secretRef",
            {"output": {"model": "a", "uri": "hf://b/c", **SECRET}},
        ),
    ],
    "public-on-the-hub-alone": [
        (
            {"output": {"model": "a", "uri": "s3://b", "private": False}},
            "spec.output.private",
            {"output": {"model": "a", "uri": "hf://b/c", "private": False, **SECRET}},
        ),
    ],
    "secret-for-remote-outputs": [
        (
            {"output": {"model": "a", **SECRET}},
            "spec.output.secretRef",
            {"output": {"model": "a", "uri": "s3://b", **SECRET}},
        ),
        (
            {"output": {"model": "a", "uri": "file://b", **SECRET}},
            "spec.output.secretRef",
            {"output": {"model": "a", "uri": "gs://b", **SECRET}},
        ),
    ],
    "toleration-of-any-value": [
        (
            {"resources": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}},
            "spec.resources.tolerations[0].value",
            {"resources": {"tolerations": [{"key": "a", "value": "b"}]}},
        )
    ],
    "toleration-of-any-key": [
        (
            {"resources": {"tolerations": [{"effect": "NoSchedule"}]}},
            "spec.resources.tolerations[0].operator",
            {"resources": {"tolerations": [{"effect": "NoSchedule", "operator": "Exists"}]}},
        )
    ],
    "toleration-for-a-time": [
        (
            {"resources": {"tolerations": [{"key": "a", "tolerationSeconds": 60}]}},
            "spec.resources.tolerations[0].tolerationSeconds",
            {
                "resources": {
                    "tolerations": [{"key": "a", "tolerationSeconds": 60, "effect": "NoExecute"}]
                }
            },
        )
    ],
    "workspace-given-or-made": [
        (
            {"workspace": {"claimName": "shared", "size": "10Gi"}},
            "spec.workspace.claimName",
            {"workspace": {"size": "10Gi", "accessMode": "ReadWriteMany"}},
        )
    ],
    "workspace-stored-or-mounted": [
        (
            {"workspace": {**STORE, field: value}, "output": REMOTE},
            "spec.workspace.uri",
            {"workspace": {**STORE, "size": "10Gi"}, "output": REMOTE},
        )
        for field, value in (
            ("claimName", "shared"),
            ("storageClassName", "fast"),
            ("accessMode", "ReadWriteMany"),
        )
    ],
    "secret-for-remote-workspaces": [
        (
            {"workspace": SECRET, "output": REMOTE},
            "spec.workspace.secretRef",
            {"workspace": {**STORE, **SECRET}, "output": REMOTE},
        )
    ],
    "output-beside-remote-workspace": [
        (
            {"workspace": STORE, "output": output},
            "spec.output.uri",
            {"workspace": STORE, "output": REMOTE},
        )
        for output in ({"model": "m"}, {"model": "m", "uri": "file://models"})
    ],
    "adapters-are-trained": [
        (
            {"output": {"model": "m", "artifact": "both"}, "training": {"method": "full"}},
            "spec.output.artifact",
            {"output": {"model": "m", "artifact": "both"}, "training": {"method": "lora"}},
        )
    ],
    "mlflow-files-without-secret": [
        (
            {"tracking": {"mlflow": {"trackingUri": "file://mlruns", **SECRET}}},
            "spec.tracking.mlflow.secretRef",
            {"tracking": {"mlflow": {"trackingUri": "https://mlflow.example.com", **SECRET}}},
        )
    ],
    "mlflow-files-outlive-the-pod": [
        (
            {
                "workspace": STORE,
                "output": REMOTE,
                "tracking": {"mlflow": {"trackingUri": "file://mlruns"}},
            },
            "spec.tracking.mlflow.trackingUri",
            {
                "workspace": STORE,
                "output": REMOTE,
                "tracking": {"mlflow": {"trackingUri": "http://mlflow.ml:5000"}},
            },
        )
    ],
    "wandb-key-when-online": [
        (
            {"tracking": {"wandb": {"mode": mode, **key}}},
            "spec.tracking.wandb.secretRef",
            {"tracking": {"wandb": {"mode": mode, **({} if key else SECRET)}}},
        )
        for mode, key in (("online", {}), ("offline", SECRET))
    ],
    "group-size-of-four-bit": [
        (
            {"compression": {"quantize": {"groupSize": 64}}},
            "spec.compression.quantize.groupSize",
            {"compression": {"quantize": {"scheme": "W4A16", "groupSize": 64}}},
        )
    ],
    "algorithm-of-four-bit": [
        (
            {"compression": {"quantize": {"algorithm": "awq"}}},
            "spec.compression.quantize.algorithm",
            {"compression": {"quantize": {"scheme": "W4A16", "algorithm": "awq"}}},
        )
    ],
    "layers-kept-of-quantized": [
        (
            {"compression": {"quantize": {"scheme": "none", "keepLayers": 1}}},
            "spec.compression.quantize.keepLayers",
            {"compression": {"quantize": {"keepLayers": 1}}},
        )
    ],
    "answers-fill-no-group": [
        (
            {
                "dataset": {
                    "train": TRAIN,
                    "balance": {"languages": True, "method": "synthesize"},
                    "synthesis": {"methods": ["answers", "evolve"]},
                }
            },
            "spec.dataset.synthesis.methods",
            {
                "dataset": {
                    "train": TRAIN,
                    "balance": {"languages": True, "method": "synthesize"},
                    "synthesis": {"methods": ["evolve"]},
                }
            },
        )
    ],
    "balance-by-synthesis": [
        (
            {"dataset": {"train": TRAIN, "balance": {"languages": True, "method": "synthesize"}}},
            "spec.dataset.balance.method",
            {
                "dataset": {
                    "train": TRAIN,
                    "balance": {"languages": True, "method": "synthesize"},
                    "synthesis": {},
                }
            },
        )
    ],
}
