"""The truth for `served_adapters`, in the trainer's environment; also writes the merged weights."""

import json
import sys
from pathlib import Path

from peft import PeftModel

from tunesmith_trainer.compress.merge import save_merged
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring, score_rows
from tunesmith_trainer.evaluate.suites import mean_loss


def main(model_folder: Path, adapter: Path, rows_file: Path, merged: Path) -> dict[str, float]:
    """Nats per target token of base and tuned model, in fp32."""
    rows = TokenRows.load(rows_file)
    model = load_for_scoring(model_folder)
    base = mean_loss(score_rows(model, rows, pad_id=0))
    tuned = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()
    loss = mean_loss(score_rows(tuned, rows, pad_id=0))
    save_merged(tuned, merged, tokenizer_folder=model_folder)
    return {"base": base, "tuned": loss}


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
