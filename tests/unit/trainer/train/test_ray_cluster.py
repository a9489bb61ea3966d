"""What a run starts on this machine has time to start, and is gone when the run ends, anyhow."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray._private import services
from ray._private.node import Node

from tunesmith_trainer.train import ray_cluster
from tunesmith_trainer.train.ray_cluster import threads_per_worker

# A child in a session of its own starts a grandchild and ends: as Ray's daemons leave workers.
ORPHANS = """
import subprocess, sys
from tunesmith_trainer.train import ray_cluster

spawn = '''
from subprocess import DEVNULL, Popen
quiet = {"stdout": DEVNULL, "stderr": DEVNULL}
print(Popen(["sleep", "60"], start_new_session=True, **quiet).pid)
'''
ray_cluster._adopt_orphans()
child = subprocess.run([sys.executable, "-c", spawn], capture_output=True, text=True)
ray_cluster._end_descendants()
print(child.stdout.strip())
"""

# A daemon with two workers, named as Ray's raylet names its own.
WORKERS = """
import subprocess, sys
from tunesmith_trainer.train import ray_cluster

spawn = '''
from subprocess import Popen
names = ["ray::RayTrainWorker", "ray::TrainController"]
train, control = [Popen([name, "60"], executable="/bin/sleep") for name in names]
print("ready", flush=True)
print(train.wait(), control.poll(), flush=True)
control.kill()
input()
'''
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
daemon = subprocess.Popen([sys.executable, "-c", spawn], **pipes)
daemon.stdout.readline()
ray_cluster._end_training()
print(daemon.stdout.readline().strip(), daemon.poll())
daemon.kill()
"""

STOPPED = """
import sys, time
from tunesmith_trainer.train import ray_cluster

with ray_cluster._exit_on_sigterm():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
"""


def test_orphans_in_other_sessions_are_ended_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, text=True, check=True
    )

    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_only_training_is_ended_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKERS], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"{-signal.SIGKILL} None None\n"


def test_sigterm_cleans_up_before_the_process_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)

    assert rest == "cleaned up\n"
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - started < 20


def test_workers_share_the_processors_and_have_one_thread_at_least() -> None:
    processors = len(os.sched_getaffinity(0))

    assert threads_per_worker(1) == processors
    assert threads_per_worker(10 * processors) == 1


def test_ray_is_given_longer_to_start_than_it_gives_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [RuntimeError("no node has this id")] * 3

    def get_node(*where: str) -> object:
        if absent:
            raise absent.pop()
        return where

    monkeypatch.setattr(services, "get_node", get_node)

    with ray_cluster._patient_start():
        found = services.get_node("address", "id")

    assert found == ("address", "id")
    assert services.get_node is get_node
    # Another release may start its node in another way.
    assert "ray._private.services.get_node(" in inspect.getsource(Node.__init__)


def test_ray_that_never_starts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_node(*_: str) -> object:
        raise RuntimeError("no node has this id")

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(ray_cluster, "_START_WAIT_S", 0.2)

    with ray_cluster._patient_start(), pytest.raises(RuntimeError, match="no node"):
        services.get_node("address", "id")
