"""Write the policy of what may be corrected in a failed job; run by `make crds`."""

import argparse
from pathlib import Path

from tunesmith_api.yaml_io import write_yaml
from tunesmith_engine.stages.correction_policy import CORRECTION_POLICY, correction_policy

HEADER = "# Written from the catalogue of stages by `make crds`; do not edit by hand.\n"


def policy_files() -> dict[str, str]:
    """The text of each file by its name."""
    policy, binding = map(write_yaml, correction_policy())
    return {f"{CORRECTION_POLICY}.yaml": f"{HEADER}{policy}---\n{binding}"}


def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description="Write the chart's policy of corrections.")
    parser.add_argument("--directory", type=Path, required=True, help="folder to write to")
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in policy_files().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(f"wrote {directory}/{name}")


if __name__ == "__main__":
    main()
