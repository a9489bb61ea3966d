"""A vLLM plugin: kernels of vLLM that compute wrongly are replaced before a model is loaded.

vLLM finds it by its entry point (`vllm.general_plugins` in pyproject.toml) and calls `register` in
each of its processes. Each replacement is made only where the fault is.
"""

from tunesmith_serving.plugin.registration import register

__all__ = ["register"]
