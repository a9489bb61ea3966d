"""The student answers some prompts itself, and the teacher says of each token what it would do.

Generalized Knowledge Distillation (Agarwal et al. 2024, arXiv 2306.13649): a student that learns
from given answers alone never sees what follows its own mistakes. No gradient goes through the
choice of tokens.
"""

from typing import Any

import numpy as np
import torch

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.objectives.distillation import Distillation, Knowledge
from tunesmith_trainer.train.packing import LayOut, one_per_line


class OnPolicyDistillation(Distillation):
    """As `Distillation`; of a `fraction` of the passes the answers are drawn from the student."""

    def __init__(
        self,
        tokens: TokenRows,
        *,
        fraction: float,
        knowledge: Knowledge,
        cross_entropy_weight: float,
        device: torch.device,
        regularization: Regularization,
        lay_out: LayOut = one_per_line,
    ) -> None:
        super().__init__(
            tokens,
            knowledge=knowledge,
            cross_entropy_weight=cross_entropy_weight,
            device=device,
            regularization=regularization,
            lay_out=lay_out,
        )
        self._fraction = fraction
        self._regularized = regularization

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32.

        Of answers of its own it is scaled to as many targets as the rows have.
        """
        # By the generator whose state checkpoints hold, so that a resumed run draws the same.
        if float(torch.rand(())) >= self._fraction:
            return super().summed_loss(model, rows)
        drawn = TokenRows.of(self._drawn(model, row) for row in rows)
        answered = Distillation(
            drawn,
            knowledge=self._knowledge,
            # There is no right answer behind words of its own.
            cross_entropy_weight=0.0,
            device=self._device,
            regularization=self._regularized,
        )
        numbers = list(range(len(drawn)))
        scale = self.num_units(rows) / answered.num_units(numbers)
        return answered.summed_loss(model, numbers) * scale

    def _drawn(self, model: Any, row: int) -> tuple[list[int], list[bool]]:
        """The row up to its last answer, and one of the student's, which is no longer."""
        ids, trained = self._tokens.row(row)
        start = last_answer(trained)
        prompt = torch.from_numpy(ids[:start].astype(np.int64))[None].to(self._device)
        was_training = model.training
        # Without dropout and checkpointing, which would go without the cache of keys.
        model.eval()
        try:
            with torch.no_grad():
                answered = model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    do_sample=True,
                    top_k=0,
                    top_p=1.0,
                    temperature=1.0,
                    max_new_tokens=len(ids) - start,
                    use_cache=True,
                )
        finally:
            model.train(was_training)
        told = answered[0].tolist()
        return told, [place >= start for place in range(len(told))]


def last_answer(trained: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    """The place of the first token of the last run of targets."""
    places = np.flatnonzero(trained)
    breaks = np.flatnonzero(np.diff(places) > 1)
    return int(places[breaks[-1] + 1] if len(breaks) else places[0])
