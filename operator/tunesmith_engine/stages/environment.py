"""Environment variables that every stage needs wherever it runs: on a laptop and in a pod."""

from typing import Final

STAGE_VARIABLES: Final = {
    "PYTHONUNBUFFERED": "1",
    # GNU's OpenMP spins 300,000 times before it sleeps: on cores shared with another job that more
    # than halves both, and on cores of its own a stage gains nothing by it (docs/log.md).
    "GOMP_SPINCOUNT": "1000",
}
