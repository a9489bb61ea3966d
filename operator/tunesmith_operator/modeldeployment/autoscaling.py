"""The KEDA `ScaledObject` of a stable revision: replicas by vLLM's own queue and KV cache.

KEDA alone writes the replicas then (one writer); `executor.py` leaves them out of what it applies.
"""

from typing import Final

from tunesmith_api.modeldeployment.autoscaling import Autoscaling
from tunesmith_operator.kube.objects import Manifest

# Per replica, so that the average over replicas is what is held against the threshold.
_QUEUE: Final = "sum(vllm:num_requests_waiting{{{pods}}})"
_KV_CACHE: Final = "sum(vllm:kv_cache_usage_perc{{{pods}}})"
_POLLING_S: Final = 15


def scaled_object(
    scaling: Autoscaling,
    *,
    name: str,
    metadata: Manifest,
    prometheus: str,
    is_frozen: bool,
    replicas: int,
) -> Manifest:
    """The scaler of the Deployment `name`; `metadata` is that of the object itself.

    `prometheus` is the URL that KEDA asks. `is_frozen` takes no replica away: a candidate takes
    work off stable, and without the replicas that it had, a rollback would meet too few.
    `replicas` are those of now, for the fallback.
    """
    pods = f'namespace="{metadata["namespace"]}",pod=~"{name}-.*"'
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "pollingInterval": _POLLING_S,
            "cooldownPeriod": scaling.cooldown_seconds,
            # What cannot be measured is no reason to take replicas away.
            "fallback": {
                "failureThreshold": 3,
                "replicas": scaling.fallback_replicas or max(scaling.min_replicas, replicas),
            },
            "advanced": {
                "horizontalPodAutoscalerConfig": {
                    "behavior": {
                        # NB: KEDA's own pause would hold back scaling up, too, under the load of a
                        # rollout. An HPA takes an hour at most.
                        "scaleDown": {
                            "stabilizationWindowSeconds": min(scaling.cooldown_seconds, 3600),
                            "selectPolicy": "Disabled" if is_frozen else "Max",
                        }
                    }
                }
            },
            "triggers": [
                _trigger(prometheus, _QUEUE.format(pods=pods), str(scaling.queue_length)),
                _trigger(prometheus, _KV_CACHE.format(pods=pods), f"{scaling.kv_cache_usage:g}"),
            ],
        },
    }


def _trigger(prometheus: str, query: str, threshold: str) -> Manifest:
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": prometheus,
            "query": query,
            "threshold": threshold,
            # An empty result is no load of zero: KEDA would scale down while metrics are missing.
            "ignoreNullValues": "false",
        },
    }
