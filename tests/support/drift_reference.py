"""A reference of data that is nothing like what the tests' clients ask a stand-in."""

import json
import random
from pathlib import Path

from tunesmith_engine.drift.signals import measure
from tunesmith_engine.drift.sketches import Reference, Sketch

_WORDS = ("принтер", "не", "печатает", "после", "обновления", "спасибо", "ошибка", "экран")
_ROWS = 400


def write_reference(path: Path, *, seed: int = 0) -> Path:
    """Long questions and answers in Cyrillic script."""
    chance = random.Random(seed)
    rows = []
    for _ in range(_ROWS):
        prompt, answer = (
            " ".join(chance.choices(_WORDS, k=chance.randint(40, 80))) for _ in range(2)
        )
        rows.append(measure(prompt, answer, prompt_tokens=300, output_tokens=200))
    reference = Reference(training=Sketch.of(rows), validation=Sketch.of(rows[:100]))
    path.write_text(json.dumps(reference.model_dump(mode="json", by_alias=True)))
    return path
