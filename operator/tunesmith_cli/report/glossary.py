"""A sentence for each word of the report that a reader may not know.

They stand at the end of every report, and in docs/concept/glossary.md among more.
"""

from collections.abc import Mapping
from typing import Final

GLOSSARY: Final[Mapping[str, str]] = {
    "nat": "The unit of losses and log-probabilities: a loss of x nats per token means that the "
    "model gave the right token a probability of e to the power of −x, so 0.69 is one half.",
    "loss": "How surprised the model is by the right answer, in nats per trained token; lower is "
    "better.",
    "held-out rows": "Rows that were kept away from training, so that they show what the model "
    "learnt and not what it learnt by heart.",
    "general text": "Text that has nothing to do with the training rows; a loss that rises there "
    "means that the model forgets.",
    "interval": "The range in which the true value lies with 95 % confidence, if the job asks for "
    "no other, given how few rows were measured; a difference with 0 in its interval may be "
    "chance.",
    "gate": "A bound that must hold before the job goes on.",
    "recovery": "The part of its quality that the model keeps when it is quantized: its loss "
    "before, divided by its loss after; 1 is all of it.",
    "parity": "Whether the server gives the same answers as the trainer: how many tokens agree, "
    "and how many nats their log-probabilities are apart.",
    "prune": "To take whole layers, channels or heads out of a model, which makes it smaller and "
    "faster.",
    "distill": "To train a model to give every token the probability that another one gives it.",
    "quantize": "To store weights in 8 or 4 bits instead of 16, which takes less memory and "
    "rounds them.",
}
