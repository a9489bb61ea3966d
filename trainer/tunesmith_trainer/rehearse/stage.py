"""The stage `rehearse`: rows of `dataset.replay.selfSynthesis`, sampled from the base model.

Leaves the artifact `replay`, a file of token rows. Facts: `{"numRows", "numDropped", "numTokens",
"secondsPerRow"}`; dropped are texts that are empty, go round in circles or repeat another. Batches
are kept as they come: a run that is killed goes on with the next one.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import CHECKPOINTS, Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import REPLAY, REPLAY_ROWS, load_prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.rehearse.sampling import BATCH_ROWS, Sampler
from tunesmith_trainer.versions import library_versions

# Batches tried for each that is wanted, before the model counts as unable.
_PATIENCE: Final = 4


def rehearse(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Let the base model write as many rows as are asked for.

    Raises:
        BadInputError: the job asks for no such rows, or for what later stages cannot do.
        VerdictError: nearly all that the model writes is unusable.
    """
    replay = request.spec.dataset.replay
    if replay is None or replay.self_synthesis is None:
        raise BadInputError(Reason.INVALID_SPEC, "dataset.replay.selfSynthesis is not given")
    wanted = replay.self_synthesis.rows
    reporter.progress("loading the model")
    model = load_prepared(request).model
    refuse_undoable(request, model=model)
    sampler = Sampler(load_for_scoring(model), load_tokenizer(model), replay.self_synthesis)
    started = time.monotonic()
    rows: dict[tuple[int, ...], TokenRow] = {}
    num_sampled = 0
    for batch in _batches(sampler, folder=Path(request.output) / CHECKPOINTS):
        rows |= {row.ids: row for row in batch}
        num_sampled += BATCH_ROWS
        reporter.progress("writing replay rows", step=min(len(rows), wanted), total_steps=wanted)
        if len(rows) >= wanted:
            break
        if num_sampled >= _PATIENCE * max(wanted, BATCH_ROWS):
            raise VerdictError(
                Reason.DATASET_INVALID,
                f"dataset.replay.selfSynthesis: of {num_sampled} texts that the base model wrote "
                f"{len(rows)} are usable; lower its temperature, or give a source",
            )
    return _outcome(request, list(rows.values())[:wanted], num_sampled, time.monotonic() - started)


def _batches(sampler: Sampler, *, folder: Path) -> Iterator[list[TokenRow]]:
    """Batches without end; those that lie in `folder` are read, the others made and kept."""
    number = 0
    while True:
        path = folder / f"batch-{number}.json"
        if not path.is_file():
            made = [[row.ids, row.trained] for row in sampler.batch(number)]
            write_atomically(path, json.dumps(made))
        kept = json.loads(path.read_text(encoding="utf-8"))
        yield [TokenRow(ids=tuple(ids), trained=tuple(trained)) for ids, trained in kept]
        number += 1


def _outcome(
    request: StageRequest, rows: list[TokenRow], num_sampled: int, seconds: float
) -> StageOutcome:
    path = Path(request.output) / REPLAY_ROWS
    tokens = TokenRows.of((row.ids, row.trained) for row in rows)
    tokens.save(path)
    return StageOutcome(
        message=f"{len(rows)} replay rows of {len(tokens.input_ids):,} tokens by the base model",
        artifacts=[artifact_of(REPLAY, path)],
        facts={
            "numRows": len(rows),
            "numDropped": num_sampled - len(rows),
            "numTokens": len(tokens.input_ids),
            "secondsPerRow": round(seconds / len(rows), 3),
        },
        versions=library_versions("torch", "transformers"),
    )
