"""The scaler of a stable revision, as KEDA reads it."""

from typing import Any

from tunesmith_api.modeldeployment.autoscaling import Autoscaling
from tunesmith_operator.modeldeployment.autoscaling import scaled_object


def scaler(*, is_frozen: bool = False, **scaling: Any) -> dict[str, Any]:
    manifest = scaled_object(
        Autoscaling(max_replicas=4, **scaling),
        name="helpdesk-0a1b2c3d",
        metadata={"name": "helpdesk-0a1b2c3d", "namespace": "team"},
        prometheus="http://prometheus:9090",
        is_frozen=is_frozen,
        replicas=3,
    )
    spec: dict[str, Any] = manifest["spec"]
    return spec


def test_replicas_follow_queue_and_cache_of_this_revision_alone() -> None:
    queue, cache = scaler(queue_length=7, kv_cache_usage=0.5)["triggers"]

    assert queue["metadata"]["threshold"] == "7"
    assert cache["metadata"]["threshold"] == "0.5"
    for trigger in (queue, cache):
        assert 'namespace="team",pod=~"helpdesk-0a1b2c3d-.*"' in trigger["metadata"]["query"]


def test_missing_metrics_never_take_replicas_away() -> None:
    spec = scaler()

    assert spec["fallback"]["replicas"] == 3
    assert all(t["metadata"]["ignoreNullValues"] == "false" for t in spec["triggers"])


def test_a_rollout_freezes_scaling_down_and_not_up() -> None:
    behavior = scaler(is_frozen=True)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]

    assert behavior["scaleDown"]["selectPolicy"] == "Disabled"
    assert "scaleUp" not in behavior
