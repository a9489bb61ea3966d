"""The next job: one for each version at most, the same one after a crash, and never a loop."""

from collections.abc import Callable
from typing import Any, Final

from deployment_world import World, a_spec, a_version
from tunesmith_api.modeldeployment.monitoring_status import Retraining, SignalDrift, TrafficStatus
from tunesmith_engine.deployment.observations import Monitored, RetrainNews
from tunesmith_engine.deployment.retraining import job_name

Serving = Callable[..., World]


def retraining(**fields: Any) -> dict[str, Any]:
    return {
        "monitoring": {
            "onDrift": {"traffic": ["alert", "retrain"]},
            "retrain": {"jobName": "helpdesk", **fields},
        }
    }


RETRAIN: Final = retraining()


def drift(world: World, *, version: str = "v1", drifted: bool = True) -> None:
    row = SignalDrift(signal="promptWords", log_e=12.0, effect=0.3)
    world.monitored = Monitored(
        TrafficStatus(
            version=version,
            requests=400,
            threshold_log_e=7.0,
            signals=[row],
            drifted=["promptWords"] if drifted else [],
        )
    )


def jobs(world: World) -> list[Retraining]:
    assert world.status is not None
    assert world.status.monitoring is not None
    return world.status.monitoring.retrainings


def make(world: World) -> None:
    """What an executor does with a job that is to be made."""
    last = world.decisions[-1].retrain
    world.retrain_news = RetrainNews(last.job, is_created=True) if last is not None else None


def test_a_drift_makes_one_job_and_no_more(serving: Serving) -> None:
    world = serving(**RETRAIN)
    drift(world)
    for _ in range(50):
        world.step(seconds=86_400)
        make(world)

    assert [(job.version, job.state) for job in jobs(world)] == [("v1", "Created")]
    assert jobs(world)[0].job == job_name("helpdesk", model="helpdesk", version="v1")
    assert jobs(world)[0].job in world.condition("DriftDetected")[2]
    assert world.decisions[-1].retrain is None


def test_the_job_is_asked_for_until_it_is_there(serving: Serving) -> None:
    world = serving(**RETRAIN)
    drift(world)
    names = {decision.job for _ in range(5) if (decision := world.step().retrain) is not None}
    assert len(names) == 1
    world.retrain_news = RetrainNews(names.pop(), is_created=False, message="no job to copy")
    world.step()

    assert [job.state for job in jobs(world)] == ["Pending"]
    assert "no job to copy" in world.condition("DriftDetected")[2]


def test_without_a_drift_or_a_wish_none_is_made(serving: Serving) -> None:
    world = serving(**RETRAIN)
    drift(world, drifted=False)
    world.step()
    assert jobs(world) == []

    world.spec = a_spec()
    drift(world)
    world.step()
    assert jobs(world) == []
    assert world.condition("DriftDetected")[:2] == ("True", "TrafficDrifted")


def test_the_next_version_may_have_one_after_the_interval(serving: Serving) -> None:
    world = serving(**retraining(minIntervalSeconds=100_000))
    drift(world)
    world.step()
    make(world)
    world.versions.append(a_version("v2", created=10))
    world.run()
    drift(world, version="v2")
    world.step()
    assert [job.version for job in jobs(world)] == ["v1"]
    world.pass_time(100_000)
    world.step()

    assert [job.version for job in jobs(world)] == ["v1", "v2"]


def test_the_runs_are_counted(serving: Serving) -> None:
    world = serving(**retraining(maxRuns=2, minIntervalSeconds=1))
    for number in range(1, 6):
        drift(world, version=f"v{number}")
        world.step()
        make(world)
        world.versions.append(a_version(f"v{number + 1}", created=10 * number))
        world.run()

    assert [job.version for job in jobs(world)] == ["v1", "v2"]
    drift(world, version="v6")
    world.step()
    assert "maxRuns" in world.condition("DriftDetected")[2]


def test_none_is_made_while_another_version_is_tried(serving: Serving) -> None:
    world = serving(**RETRAIN)
    world.versions.append(a_version("v2", created=10))
    world.judged_after_s = 1e9
    world.run_until("Analyzing")
    drift(world)
    world.step()

    assert jobs(world) == []


def test_on_one_machine_it_says_that_none_can_be_made(serving: Serving) -> None:
    world = serving(**RETRAIN)
    world.overrides = {"cannot_retrain": "run the next one yourself"}
    drift(world)
    world.step()

    assert jobs(world) == []
    assert "run the next one yourself" in world.condition("DriftDetected")[2]


def test_a_rollout_that_was_under_way_is_held_and_a_later_one_is_not(serving: Serving) -> None:
    world = serving(monitoring={"onDrift": {"traffic": ["holdRollout"]}})
    world.versions.append(a_version("v2", created=10))
    world.run_until("Analyzing")
    drift(world)
    for _ in range(100):
        world.step()
    assert world.condition("Progressing")[1] == "TrafficDrifted"

    world.versions.append(a_version("v3", created=20_000))
    world.pass_time(20_000)
    status = world.run()
    assert status.stable is not None
    assert status.stable.version == "v3"


def test_numbers_are_written_once_a_minute_and_flips_at_once(serving: Serving) -> None:
    world = serving()
    drift(world, drifted=False)
    world.step()
    writes, before = 0, world.status
    for number in range(600):
        traffic = TrafficStatus(version="v1", requests=number, threshold_log_e=7.0)
        world.monitored = Monitored(traffic)
        world.step(seconds=1)
        writes += world.status != before
        before = world.status
    assert writes <= 11
    drift(world)
    world.step(seconds=1)
    assert world.condition("DriftDetected")[0] == "True"


def test_names_are_short_and_their_own() -> None:
    long = "a" * 39 + "b"
    names = {job_name(long, model="m", version=f"v{number}") for number in range(100)}

    assert len(names) == 100
    assert max(map(len, names)) <= 40
