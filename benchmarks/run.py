"""Measures the promises, prints JSON; `make bench` runs it in the control environment.

Each benchmark runs Tunesmith and its peer alternately, on the same machine in the same run, through
the same commands that users type. Times move with whatever else the machine does: read the ratios.
Progress goes to stderr, and every finished benchmark is kept in `--home`, in `results.json`.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adapter_precision
import artifact_drift
import cleaning
import controller_scale
import data_remedies_study
import demo_stages
import distillation_study
import divergence
import dpo
import drift
import edge_formats
import explanation
import fairness_remedies_study
import finished_jobs
import forgetting_study
import generation
import highlights
import judge
import memory_planner
import near_duplicates
import overfitting_study
import planted_bias
import prepare_scale
import probe_pace
import quantized_roofline
import rounding
import route_latency
import search_memory
import search_study
import serving_throughput
import soak
import speculative_pair
import swaps
import tap
import tap_in_vllm
import training_throughput

ROOT = Path(__file__).parents[1]
BENCHMARKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "demoStages": demo_stages.measure,
    "artifactDrift": artifact_drift.measure,
    "adapterDrift": artifact_drift.measure_adapters,
    "templateDrift": artifact_drift.measure_template,
    "plantedBias": planted_bias.measure,
    "probePace": probe_pace.measure,
    "adapterPrecision": adapter_precision.measure,
    "divergence": divergence.measure,
    "trainingThroughput": training_throughput.measure,
    "overfittingStudy": overfitting_study.measure,
    "dataRemediesStudy": data_remedies_study.measure,
    "forgettingStudy": forgetting_study.measure,
    "distillationStudy": distillation_study.measure,
    "servingThroughput": serving_throughput.measure,
    "speculativePair": speculative_pair.measure,
    "controllerScale": controller_scale.measure,
    "finishedJobs": finished_jobs.measure,
    "generation": generation.measure,
    "judge": judge.measure,
    "memoryPlanner": memory_planner.measure,
    "cleaning": cleaning.measure,
    "nearDuplicates": near_duplicates.measure,
    "prepareScale": prepare_scale.measure,
    "dpo": dpo.measure,
    "drift": drift.measure,
    "edgeFormats": edge_formats.measure,
    "explanation": explanation.measure,
    "highlights": highlights.measure,
    "fairnessRemediesStudy": fairness_remedies_study.measure,
    "quantizedRoofline": quantized_roofline.measure,
    "rounding": rounding.measure,
    "routeLatency": route_latency.measure,
    "searchMemory": search_memory.measure,
    "searchStudy": search_study.measure,
    "soak": soak.measure,
    "swaps": swaps.measure,
    "tap": tap.measure,
    "tapInVllm": tap_in_vllm.measure,
}
_CLUSTER = """controllerScale, finishedJobs and soak load the API server that KUBECONFIG names, and
are skipped where that is none of this machine, or where kubectl and kwok (0.8) are
neither on the PATH nor in KUBEBUILDER_ASSETS. They bring nodes of their own. Start
the API server with --audit-log-format=json, at the level Metadata, to have writes
counted: the log is looked for at logs/audit.jsonl beside the kubeconfig, or where
BENCH_AUDIT_LOG says. Give the controller manager and the scheduler --kube-api-qps=500
--kube-api-burst=1000, or it is their own limit that is measured."""


def main() -> None:
    """Run what was asked for and print the results."""
    options = _options()
    options.home.mkdir(parents=True, exist_ok=True)
    results = _context()
    for name in options.only or BENCHMARKS:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        results[name] = BENCHMARKS[name](options.home)
        (options.home / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    print(json.dumps(results, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure the promises and print JSON.", epilog=_CLUSTER
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="these benchmarks alone")
    parser.add_argument(
        "--home",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="working folder; finished stages in it are used again (default: benchmarks/results)",
    )
    return parser.parse_args()


def _context() -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tunesmith": version("tunesmith"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _instruction_sets(),
    }


def _instruction_sets() -> list[str]:
    """The vector extensions that decide which kernels are used."""
    wanted = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    return sorted(wanted & set(flags))


if __name__ == "__main__":
    main()
