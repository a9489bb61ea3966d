"""The operator is cut off from the API server, or the API server dies."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from births import watched_births
from crowd import Crowd, a_crowd, picture, wait_until
from faulty_network import Answer, Call, Network, Send, a_network
from held_jobs import Ours, kept_running, operator_behind, operator_for
from operator_process import a_job


def a_job_that_has_begun(crowd: Crowd) -> str:
    namespace = crowd.add()
    crowd.play(until=lambda: crowd.phases()[namespace] == "Training")
    return namespace


def test_a_leader_that_is_cut_off_ends_before_another_goes_on(server: httpx.Client) -> None:
    """The first by broken connections, the second by such as hang; the third goes on with all."""
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        fault = Ours(crowd.home)
        with operator_behind(fault, crowd, server) as (first, way_of_first):
            a_job_that_has_begun(crowd)
            with operator_behind(fault, crowd, server) as (second, way_of_second):
                way_of_first.cut()
                a_job_that_has_begun(crowd)
                ended = [first.wait(timeout=20)]
                with operator_behind(fault, crowd, server):
                    way_of_second.silence()
                    crowd.add()
                    crowd.play(until=crowd.are_over)
                    ended.append(second.wait(timeout=20))
        births.alive(crowd.namespaces)
        pictures = [picture(job, births.all) for job in crowd.jobs().values()]

    assert ended == [1, 1]
    assert births.twins() == {}
    assert pictures[:2] == [pictures[2]] * 2


class CutsAtTheFirstWrite(Ours):
    """Before its answer has come through, so that a look fails for sure."""

    network: Network | None = None

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        answer = await send()
        if call.is_write and self.network is not None:
            self.network.cut()
            self.network = None
        return answer


def test_a_short_outage_is_a_line_in_the_log_and_no_traceback(
    server: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with a_crowd(server) as crowd:
        fault = CutsAtTheFirstWrite(crowd.home)
        with operator_behind(fault, crowd, server) as (_, network):
            fault.network = network
            job = crowd.add()
            wait_until(lambda: fault.network is None)
            time.sleep(4)
            network.mend()
            crowd.play(until=crowd.are_over)
    said = capfd.readouterr().err

    assert f"{job}/helpdesk is looked at again in" in said
    assert "Traceback" not in said


def test_an_operator_started_while_there_is_no_server_waits_for_it_and_goes_on(
    server: httpx.Client,
) -> None:
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        with a_network(str(server.base_url), Ours(crowd.home)) as (network, kubeconfig):
            with operator_for(crowd, kubeconfig) as first:
                job = a_job_that_has_begun(crowd)
                network.cut()
                first.wait(timeout=20)
            with operator_for(crowd, kubeconfig) as second:
                with pytest.raises(subprocess.TimeoutExpired):
                    second.wait(timeout=7)
                network.mend()
                undisturbed = crowd.add()
                crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}

    assert births.twins() == {}
    assert pictures[job] == pictures[undisturbed]


def test_an_operator_that_trusts_a_certificate_of_the_past_ends_and_the_next_goes_on(
    server: httpx.Client,
) -> None:
    """It has read the authority once; nothing that it asks is answered any more."""
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        with operator_behind(Ours(crowd.home), crowd, server) as (first, network):
            job = a_job_that_has_begun(crowd)
            network.rotate_certificate()
            ended = first.wait(timeout=40)
            with operator_for(crowd, network.kubeconfig):
                undisturbed = crowd.add()
                crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(each, births.all) for name, each in crowd.jobs().items()}

    assert ended == 1
    assert births.twins() == {}
    assert pictures[job] == pictures[undisturbed]


@pytest.mark.alone
def test_the_api_server_is_killed_while_jobs_run(
    server: httpx.Client, kill_api_server: Callable[[], None], parameterized_policy: None
) -> None:
    """For half a minute the new one finds no parameters of policies, and refuses all jobs."""
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        kubeconfig = Path(os.environ["KUBECONFIG"])
        with kept_running(lambda: operator_for(crowd, kubeconfig)):
            jobs = [a_job_that_has_begun(crowd) for _ in range(3)]
            kill_api_server()
            undisturbed = crowd.room()
            wait_until(lambda: crowd.of(undisturbed).create(a_job(), dry_run=True).is_success)
            crowd.create(undisturbed)
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}

    assert births.twins() == {}
    assert [pictures[each] for each in jobs] == [pictures[undisturbed]] * 3
