"""Write the Grafana dashboards from the panels in dashboards.yaml; run by `make dashboards`."""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

PANELS = Path(__file__).with_name("dashboards.yaml")
CHOSEN = 'namespace=~"$namespace",deployment=~"$deployment"'
# Of Grafana's 24 columns: three panels a row.
WIDTH, HEIGHT, PER_ROW = 8, 8, 3
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(name: str, *, title: str, panels: list[dict[str, Any]]) -> dict[str, Any]:
    """Grafana's JSON of one dashboard."""
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource"}
    menus = [choice(label) for label in ("namespace", "deployment")]
    drawn = [grafana_panel(panel, number=number) for number, panel in enumerate(panels)]
    is_chosen_from = any("$deployment" in json.dumps(panel) for panel in drawn)
    return {
        "title": title,
        "uid": f"tunesmith-{name}",
        "tags": ["tunesmith"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [source | {"query": "prometheus"}, *(menus if is_chosen_from else [])]
        },
        "panels": drawn,
    }


def choice(label: str) -> dict[str, Any]:
    """A menu of the values of a label, with all of them chosen at first."""
    within = '{namespace=~"$namespace"}' if label == "deployment" else ""
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values(tunesmith_deployment_info{within}, {label})",
        "refresh": 2,
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def grafana_panel(panel: dict[str, Any], *, number: int) -> dict[str, Any]:
    """One panel at its place."""
    position = {"x": number % PER_ROW * WIDTH, "y": number // PER_ROW * HEIGHT}
    targets = [
        {
            "refId": chr(ord("A") + place),
            "expr": query.replace("{}", f"{{{CHOSEN}}}").replace("{,", f"{{{CHOSEN},"),
            "legendFormat": legend,
        }
        for place, (legend, query) in enumerate(panel["queries"].items())
    ]
    return {
        "id": number + 1,
        "title": panel["title"],
        "description": panel["about"],
        "type": panel.get("type", "timeseries"),
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, **position},
        "fieldConfig": {"defaults": {"unit": panel["unit"]}, "overrides": []},
        "targets": targets,
    }


def main() -> None:
    """Write every dashboard."""
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards.")
    parser.add_argument("--directory", type=Path, required=True, help="folder to write to")
    directory: Path = parser.parse_args().directory
    for name, parts in yaml.safe_load(PANELS.read_text(encoding="utf-8")).items():
        text = json.dumps(dashboard(name, **parts), indent=2)
        (directory / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
        print(f"wrote {directory}/{name}.json")


if __name__ == "__main__":
    main()
