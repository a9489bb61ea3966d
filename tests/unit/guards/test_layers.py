"""The layers of `.importlinter` hold, and stages use no more of the engine than their contract."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
STAGE_PACKAGES = ("tunesmith_trainer", "tunesmith_serving")
OPEN_TO_STAGES = (
    "tunesmith_engine.estimates",
    "tunesmith_engine.capacity",
    # What a replica reports, and operator and laptop read.
    "tunesmith_engine.deployment.replica_report",
    # What a replica is told.
    "tunesmith_engine.deployment.adapter_list",
    # Which headers say whose request it is, to routes and replicas alike.
    "tunesmith_engine.deployment.request_identity",
    # What earlier jobs propose to a search, whose runner asks at each turn.
    "tunesmith_engine.search_memory",
    # How a request is measured: rows and live traffic by one function.
    "tunesmith_engine.drift.refusals",
    "tunesmith_engine.drift.signals",
    "tunesmith_engine.drift.sketches",
    # Prometheus' text format, read from the engine that a replica stands before.
    "tunesmith_engine.monitoring.exposition",
    # What training's metrics are called, by those that serve them and those that read.
    "tunesmith_engine.monitoring.metric_families",
    "tunesmith_engine.monitoring.training_families",
    "tunesmith_engine.sources",
    "tunesmith_engine.stages",
)


def test_the_contracts_of_the_import_linter_are_kept() -> None:
    """`make lint` runs the same contracts."""
    linter = Path(sys.executable).with_name("lint-imports")

    result = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("package", STAGE_PACKAGES)
def test_a_stage_imports_only_the_stage_contract_and_the_sources_of_the_engine(
    package: str,
) -> None:
    """A stage runs in an image where nothing plans or drives jobs."""
    graph = grimp.build_graph("tunesmith_engine", package, cache_dir=None)

    reached = {
        imported
        for module in {package, *graph.find_descendants(package)}
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.startswith("tunesmith_engine.") and not imported.startswith(OPEN_TO_STAGES)
    }

    assert reached == set()
