"""The samples that people copy: valid jobs, values that the chart takes, paths that exist."""

from pathlib import Path
from typing import Any

import yaml

from chart import CHART, chart
from tunesmith_api.manifest import load_job

ROOT = Path(__file__).parents[3]
GITOPS = ROOT / "examples" / "gitops"
JOBS = GITOPS / "jobs"


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((GITOPS / path).read_text(encoding="utf-8")))


def test_the_kustomization_lists_every_job_and_each_is_valid() -> None:
    listed = yaml.safe_load((JOBS / "kustomization.yaml").read_text())["resources"]

    assert {path.name for path in JOBS.iterdir()} == {*listed, "kustomization.yaml"}
    for name in listed:
        load_job((JOBS / name).read_text(encoding="utf-8"), source=name)


def test_argo_cds_sample_gives_the_chart_values_that_it_takes() -> None:
    operator, _ = documents("argocd/applications.yaml")
    source = operator["spec"]["source"]

    assert ROOT / source["path"] == CHART
    chart().validate_schema(source["helm"]["valuesObject"])


def test_fluxs_sample_gives_the_chart_values_that_it_takes() -> None:
    _, release = documents("flux/operator.yaml")

    assert ROOT / release["spec"]["chart"]["spec"]["chart"] == CHART
    chart().validate_schema(release["spec"]["values"])


def test_the_release_has_one_name_wherever_it_comes_from() -> None:
    """Moving from one tool to the other must not make a second operator."""
    operator, _ = documents("argocd/applications.yaml")
    _, release = documents("flux/operator.yaml")

    assert operator["spec"]["source"]["helm"]["releaseName"] == release["spec"]["releaseName"]
    assert operator["spec"]["destination"]["namespace"] == release["spec"]["targetNamespace"]


def test_the_guide_shows_the_health_checks_of_the_sample() -> None:
    _, sample = documents("flux/jobs.yaml")
    guide = (ROOT / "docs" / "task" / "gitops.md").read_text(encoding="utf-8")
    (block,) = (each for each in guide.split("```") if each.startswith("yaml\n"))

    assert yaml.safe_load(block.removeprefix("yaml\n")) == sample
