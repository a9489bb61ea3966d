"""What cleaning finds in the rows of a folder, every rule with its default but that for mojibake.

`cleaning.py` runs it in the trainer's environment.
"""

import json
import sys
from pathlib import Path

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_trainer.data.cleaning.text_repair import without_mojibake
from tunesmith_trainer.prepare.cleaning_preview import preview
from tunesmith_trainer.prepare.loading import Folders


def main(folder: Path) -> None:
    """Print the findings of every rule, and the mended texts of the rows with mojibake."""
    dataset = Dataset.model_validate(
        {
            "train": {"uri": "file://rows.jsonl"},
            "validation": {"uri": "file://held-out.jsonl"},
            "cleaning": {"repair": {"mojibake": "warn"}},
        }
    )
    folders = Folders(folder, folder / "cache", folder / "secrets")
    damaged = json.loads((folder / "damaged.json").read_text(encoding="utf-8"))
    print(
        json.dumps(
            preview(dataset, folders, num_texts=0)
            | {"mended": [[without_mojibake(turn) for turn in turns] for turns in damaged]}
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
