"""What serving and training cost: accelerators, the time that they are held, and their price."""

from datetime import datetime
from typing import Final

from tunesmith_api.modeldeployment.monitoring_status import CostStatus
from tunesmith_engine.monitoring.slo_rules import PERIOD_S
from tunesmith_engine.monitoring.tallies import Tally

_HOUR_S: Final = 3600.0
_WITHOUT_ACCELERATORS: Final = (
    "replicas have no accelerators (resources.gpusPerReplica: 0), and only those have a price here"
)
_WITHOUT_PRICE: Final = "no price: set spec.cost.pricePerAcceleratorHour, or the chart's"


def cost_status(
    tally: Tally, *, price: float | None, accelerators: int, now: datetime
) -> CostStatus:
    """The cost of the last hour; `tally` holds accelerator seconds, tokens and whole answers.

    Without a price, or without accelerators, it is unknown rather than 0.
    """
    month = tally.over(PERIOD_S, now=now)
    hours = round(month[0] / _HOUR_S, 3) if month else 0.0
    message = _WITHOUT_ACCELERATORS if not accelerators else _WITHOUT_PRICE if price is None else ""
    if message or price is None:
        return CostStatus(
            price_per_accelerator_hour=price, accelerator_hours=hours, message=message
        )
    seconds, tokens, requests = tally.over(_HOUR_S, now=now) or (0.0, 0.0, 0.0)
    spent = price * seconds / _HOUR_S
    return CostStatus(
        price_per_accelerator_hour=price,
        accelerator_hours=hours,
        per_million_tokens=float(f"{1e6 * spent / tokens:.4g}") if tokens else None,
        per_request=float(f"{spent / requests:.4g}") if requests else None,
    )


def training_cost(gpu_seconds: float, *, price: float | None) -> float | None:
    """What a job has cost so far; None where nobody knows."""
    return None if price is None or not gpu_seconds else round(price * gpu_seconds / _HOUR_S, 4)
