"""Write the policies of corrections and of what an admin allows; run by `make crds`."""

import argparse
from pathlib import Path

from tunesmith_api.admin_policy import ADMIN_POLICY, admin_policy
from tunesmith_api.yaml_io import write_yaml
from tunesmith_engine.stages.correction_policy import CORRECTION_POLICY, correction_policy

HEADER = "# Written from models and catalogue by `make crds`; do not edit by hand.\n"


def policy_files() -> dict[str, str]:
    """The text of each file by its name."""
    written = {CORRECTION_POLICY: correction_policy(), ADMIN_POLICY: admin_policy()}
    return {
        f"{name}.yaml": HEADER + "---\n".join(map(write_yaml, parts))
        for name, parts in written.items()
    }


def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description="Write the chart's policies.")
    parser.add_argument("--directory", type=Path, required=True, help="folder to write to")
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in policy_files().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(f"wrote {directory}/{name}")


if __name__ == "__main__":
    main()
