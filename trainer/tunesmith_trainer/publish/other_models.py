"""What a model card tells of models elsewhere: the judge of the answers, and make or buy."""

from collections.abc import Iterator, Mapping
from typing import Any


def other_models(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """A paragraph for each model that the job asked; `evaluation` is `evaluation.json`."""
    if judged := evaluation.get("judge"):
        share = judged["firstShare"]
        place = "" if share is None else f"; {share:.0%} of its verdicts named the one shown first"
        yield (
            f"{judged['model']} compared the answers of tuned and base model in both orders: tuned "
            f"better {judged['tuned']:,}, base better {judged['base']:,}, ties {judged['tie']:,}, "
            f"of which {judged['inconsistent']:,} by another verdict in the other order{place}. "
            "The win rate counts a tie as half."
        )
    if bought := evaluation.get("reference"):
        used = bought["perThousandRequests"]
        price = used["reference"]["price"]
        told = "" if price is None else f", at a price of {price:.4g}"
        yield (
            f"{bought['model']}, a managed model, answered the same prompts (`reference` in the "
            f"table). A thousand such requests take {_tokens(used['reference'])} of it{told}, and "
            f"{_tokens(used['tuned'])} of the tuned model."
        )


def _tokens(used: Mapping[str, Any]) -> str:
    return f"{used['promptTokens']:,} tokens read and {used['completionTokens']:,} written"
