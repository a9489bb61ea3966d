"""What breaks the rules of `spec.evaluation.explain`, and the nearest thing that keeps them."""

from typing import Any

# As in `rule_breaches`, which holds them, too.
EXPLAIN_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "explain-methods-differ": [
        (
            {"evaluation": {"explain": {"methods": ["shap", "lime", "shap"]}}},
            "spec.evaluation.explain.methods",
            {"evaluation": {"explain": {"methods": ["shap", "lime"]}}},
        )
    ],
    "explain-passes-for-seeds": [
        (
            {"evaluation": {"explain": {"maxPasses": 31, "seeds": 2}}},
            "spec.evaluation.explain.maxPasses",
            {"evaluation": {"explain": {"maxPasses": 32, "seeds": 2}}},
        )
    ],
}
