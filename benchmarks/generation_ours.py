"""Our side of `generation`, in the trainer's environment; prints JSON."""

import json
import sys
import time
from pathlib import Path

from tunesmith_trainer.data.prepared import read_row_records
from tunesmith_trainer.evaluate.generation import generate_ids, pad_id_of, stop_ids
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring
from tunesmith_trainer.models import load_tokenizer


def main(model_folder: Path, data: Path, num_prompts: int, max_new_tokens: int) -> dict[str, float]:
    """Tokens a second, after a short answer to warm up."""
    model, tokenizer = load_for_scoring(model_folder), load_tokenizer(model_folder)
    records = read_row_records(data / "train.jsonl")[:num_prompts]
    prompts = [
        tokenizer(record.prompt, add_special_tokens=False)["input_ids"] for record in records
    ]
    stops, pad_id = stop_ids(model, tokenizer), pad_id_of(tokenizer)
    generate_ids(model, prompts[:2], stops=stops, pad_id=pad_id, max_new_tokens=2)
    started = time.monotonic()
    answers = generate_ids(
        model, prompts, stops=stops, pad_id=pad_id, max_new_tokens=max_new_tokens
    )
    seconds = time.monotonic() - started
    return {"tokensPerSecond": sum(map(len, answers)) / seconds, "seconds": seconds}


if __name__ == "__main__":
    model_folder, data, *numbers = sys.argv[1:]
    print(json.dumps(main(Path(model_folder), Path(data), *map(int, numbers))))
