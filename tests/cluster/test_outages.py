"""The operator is cut off from the API server, hears nothing from it, or hears old news."""

import httpx

from births import watched_births
from crowd import Crowd, a_crowd, picture
from held_jobs import Ours, operator_behind


def a_job_that_has_begun(crowd: Crowd) -> str:
    namespace = crowd.add()
    crowd.play(until=lambda: crowd.phases()[namespace] == "Training")
    return namespace


def test_a_leader_that_is_cut_off_ends_before_another_goes_on(server: httpx.Client) -> None:
    """The first by broken connections, the second by such as hang; the third goes on with all."""
    with a_crowd(server) as crowd, watched_births(server) as births:
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
