"""What the operator relies on in an API server: run against the double, and against a real one.

A class that inherits `ApiContract` gives it the `place` where the requests are made. Whatever the
double is to repeat of a real server has its test here, so that it cannot tell another story.
"""

import pytest

from api_scene import (
    Manifest,
    Place,
    Scene,
    a_batch_job,
    a_map,
    a_workload,
    an_event,
    eventually,
    refused,
)
from tunesmith_operator.finetunejob.child_names import LABEL_JOB
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.manifests import owned
from tunesmith_operator.kube.objects import SELECTOR


class ApiContract:
    """The tests."""

    @pytest.fixture
    def scene(self, place: Place) -> Scene:
        return Scene(place)

    def test_what_is_not_there_is_none(self, scene: Scene) -> None:
        assert scene.look("ConfigMap", "report") is None
        assert scene.look("FineTuneJob", "helpdesk") is None

    def test_what_is_made_gets_an_identity_and_a_version(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.create(a_map(owner, a="1"))
        found = scene.get("ConfigMap", "report")
        known = found["metadata"]

        assert (found["kind"], found["apiVersion"], found["data"]) == (
            "ConfigMap",
            "v1",
            {"a": "1"},
        )
        assert known["uid"]
        assert known["resourceVersion"]
        assert known["creationTimestamp"].endswith("Z")
        assert "deletionTimestamp" not in known
        assert "generation" not in known
        assert scene.get("FineTuneJob", "helpdesk")["metadata"]["generation"] == 1
        assert "status" not in scene.get("FineTuneJob", "helpdesk")

    def test_a_list_has_what_bears_all_the_labels(self, scene: Scene) -> None:
        first, second = scene.a_job("first"), scene.a_job("second")
        for owner in (first, second):
            scene.create(a_batch_job(owner, f"{owner.name}-b"))
            scene.create(a_batch_job(owner, f"{owner.name}-a"))
        other = a_batch_job(first, "other")
        other["metadata"]["labels"] = {LABEL_JOB: "first"}
        scene.place.put(other)

        assert scene.names("Job", f"{SELECTOR},{LABEL_JOB}=first") == ["first-a", "first-b"]
        assert scene.names("Job", f"{LABEL_JOB}=first") == ["first-a", "first-b", "other"]
        assert scene.names("Job", f"{LABEL_JOB}=third") == []

    def test_what_is_listed_is_the_object_less_the_kind_of_a_built_in_one(
        self, scene: Scene
    ) -> None:
        owner = scene.a_job()
        scene.place.change("FineTuneJob", "helpdesk", {"metadata": {"labels": {"a": "b"}}})
        scene.create(a_map(owner))
        (built_in,) = scene.listed("ConfigMap", SELECTOR)
        (custom,) = scene.listed("FineTuneJob", "a=b")
        found = scene.get("ConfigMap", "report")

        assert {"apiVersion": "v1", "kind": "ConfigMap"} | built_in == found
        assert "kind" not in built_in
        assert custom == scene.get("FineTuneJob", "helpdesk")

    def test_creating_what_is_there_changes_nothing(self, scene: Scene) -> None:
        owner = scene.a_job()
        is_new = scene.create(a_batch_job(owner))
        scene.place.change("Job", "prepare", {"metadata": {"annotations": {"theirs": "yes"}}})
        before = scene.get("Job", "prepare")
        is_new_again = scene.create(a_batch_job(owner, backoffLimit=3))

        assert (is_new, is_new_again) == (True, False)
        assert scene.get("Job", "prepare") == before

    def test_creating_what_is_on_its_way_out_changes_nothing(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.create(a_map(owner, a="1"))
        scene.delete_but_hold("ConfigMap", "report")
        before = scene.get("ConfigMap", "report")
        scene.create(a_map(owner, a="2"))
        after = scene.get("ConfigMap", "report")
        scene.hold("ConfigMap", "report", is_held=False)

        assert after == before

    def test_nothing_is_made_where_there_is_no_namespace(self, scene: Scene) -> None:
        manifest = a_map(JobRef(name="j", namespace="nowhere-at-all", uid="u"))

        assert refused(lambda: scene.create(manifest)) == 404
        assert refused(lambda: scene.apply(manifest)) == 404

    def test_an_apply_makes_what_is_not_there(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.apply(a_map(owner, a="1"))
        found = scene.get("ConfigMap", "report")

        assert found["data"] == {"a": "1"}
        assert [each["uid"] for each in found["metadata"]["ownerReferences"]] == [owner.uid]

    def test_an_apply_that_says_nothing_new_makes_no_new_version(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.apply(a_map(owner, a="1"))
        before = scene.get("ConfigMap", "report")
        scene.apply(a_map(owner, a="1"))

        assert scene.get("ConfigMap", "report") == before

    def test_an_apply_leaves_alone_what_others_wrote(self, scene: Scene) -> None:
        """The stages report into a ConfigMap that the operator applies again."""
        owner = scene.a_job()
        scene.apply(owned("v1", "ConfigMap", "report", owner))
        theirs = {"data": {"prepare-1.result": "{}"}, "metadata": {"labels": {"theirs": "yes"}}}
        scene.place.change("ConfigMap", "report", theirs)
        scene.apply(owned("v1", "ConfigMap", "report", owner))
        found = scene.get("ConfigMap", "report")

        assert found["data"] == theirs["data"]
        assert found["metadata"]["labels"]["theirs"] == "yes"

    def test_an_apply_takes_back_what_it_no_longer_says(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.apply(a_map(owner, a="1", b="2"))
        scene.place.change("ConfigMap", "report", {"data": {"c": "3"}})
        scene.apply(a_map(owner, b="4"))

        assert scene.get("ConfigMap", "report")["data"] == {"b": "4", "c": "3"}

    def test_an_apply_that_drops_a_whole_field_leaves_the_part_of_others(
        self, scene: Scene
    ) -> None:
        owner = scene.a_job()
        scene.apply(a_map(owner, a="1"))
        scene.place.change("ConfigMap", "report", {"data": {"c": "3"}})
        scene.apply(owned("v1", "ConfigMap", "report", owner))

        assert scene.get("ConfigMap", "report")["data"] == {"c": "3"}

    def test_an_apply_for_another_owner_takes_over_from_the_first(self, scene: Scene) -> None:
        first, second, third = (scene.a_job(each) for each in ("first", "second", "third"))
        scene.apply(a_map(first, a="1"))
        theirs = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob"}
        references = scene.get("ConfigMap", "report")["metadata"]["ownerReferences"]
        added = [*references, theirs | {"name": third.name, "uid": third.uid}]
        scene.place.change("ConfigMap", "report", {"metadata": {"ownerReferences": added}})
        scene.apply(a_map(second, a="1"))
        owners = scene.get("ConfigMap", "report")["metadata"]["ownerReferences"]

        assert {each["uid"] for each in owners} == {second.uid, third.uid}

    def test_an_apply_replaces_the_rules_of_a_role(self, scene: Scene) -> None:
        owner = scene.a_job()
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}
        for names in (["report"], ["another"]):
            rules = [rule | {"resourceNames": names}]
            scene.apply(owned("rbac.authorization.k8s.io/v1", "Role", "r", owner, rules=rules))

        assert scene.get("Role", "r")["rules"] == [rule | {"resourceNames": ["another"]}]

    def test_what_is_on_its_way_out_cannot_be_applied(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.apply(a_map(owner, a="1"))
        scene.delete_but_hold("ConfigMap", "report")
        refusal = refused(lambda: scene.apply(a_map(owner, a="2")))
        scene.hold("ConfigMap", "report", is_held=False)

        assert refusal == 409

    def test_a_status_is_merged_and_nothing_else_is_touched(self, scene: Scene) -> None:
        scene.a_job()
        before = scene.get("FineTuneJob", "helpdesk")
        first = scene.patch_status(before, {"phase": "Queued", "score": 0.5, "startTime": None})
        middle = scene.get("FineTuneJob", "helpdesk")
        change = {"score": None, "completionTime": "2026-11-26T00:00:00Z"}
        second = scene.patch_status(middle, change)
        after = scene.get("FineTuneJob", "helpdesk")

        assert (middle["status"]["phase"], middle["status"]["score"]) == ("Queued", 0.5)
        assert after["status"]["phase"] == "Queued"
        assert after["status"]["completionTime"] == "2026-11-26T00:00:00Z"
        assert "score" not in after["status"]
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == 1
        versions = [each["metadata"]["resourceVersion"] for each in (before, middle, after)]
        assert versions[1:] == [first, second]
        assert len(set(versions)) == 3

    def test_a_status_that_says_nothing_new_makes_no_new_version(self, scene: Scene) -> None:
        scene.a_job()
        scene.patch_status(scene.get("FineTuneJob", "helpdesk"), {"phase": "Queued"})
        before = scene.get("FineTuneJob", "helpdesk")
        versions = {scene.patch_status(before, each) for each in ({}, {"phase": "Queued"})}

        assert scene.get("FineTuneJob", "helpdesk") == before
        assert versions == {before["metadata"]["resourceVersion"]}

    @pytest.mark.parametrize("change", [{"phase": "Queued"}, {}])
    def test_a_status_for_an_older_version_is_refused(self, scene: Scene, change: Manifest) -> None:
        """Even one that changes nothing: so a look is found to be of the past."""
        scene.a_job()
        first = scene.get("FineTuneJob", "helpdesk")
        scene.patch_status(first, {"phase": "Preparing"})
        seen = scene.get("FineTuneJob", "helpdesk")
        scene.place.change("FineTuneJob", "helpdesk", {"spec": {"suspend": True}})

        assert refused(lambda: scene.patch_status(seen, change)) == 409
        assert scene.get("FineTuneJob", "helpdesk")["status"]["phase"] == "Preparing"
        assert scene.get("FineTuneJob", "helpdesk")["metadata"]["generation"] == 2

    def test_a_status_for_an_object_that_was_made_again_is_refused(self, scene: Scene) -> None:
        scene.a_job()
        seen = scene.get("FineTuneJob", "helpdesk")
        scene.delete("FineTuneJob", "helpdesk")
        eventually(lambda: scene.look("FineTuneJob", "helpdesk") is None)
        absent = refused(lambda: scene.patch_status(seen, {"phase": "Queued"}))
        scene.a_job()

        assert absent == 404
        assert refused(lambda: scene.patch_status(seen, {"phase": "Queued"})) == 409
        assert "status" not in scene.get("FineTuneJob", "helpdesk")

    def test_a_change_is_merged_into_the_object_of_its_uid_and_into_no_other(
        self, scene: Scene
    ) -> None:
        owner = scene.a_job()
        scene.create(a_map(owner, a="1", b="2"))
        uid = scene.get("ConfigMap", "report")["metadata"]["uid"]
        scene.patch("ConfigMap", "report", {"metadata": {"uid": uid}, "data": {"a": None}})
        other = {"metadata": {"uid": owner.uid}, "data": {"b": None}}

        assert refused(lambda: scene.patch("ConfigMap", "report", other)) == 422
        assert refused(lambda: scene.patch("ConfigMap", "nowhere", {"data": {}})) == 404
        assert scene.get("ConfigMap", "report")["data"] == {"b": "2"}

    def test_deleting_what_is_not_there_is_no_error(self, scene: Scene) -> None:
        seen = {"metadata": {"uid": "u", "resourceVersion": "1"}}
        scene.delete("Job", "prepare")
        scene.delete("Job", "prepare", as_seen=seen)

    def test_what_is_deleted_goes(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.create(a_batch_job(owner))
        scene.delete("Job", "prepare")
        eventually(lambda: scene.look("Job", "prepare") is None)

    def test_only_what_was_seen_is_deleted(self, scene: Scene) -> None:
        scene.a_job()
        seen = scene.get("FineTuneJob", "helpdesk")
        scene.place.change("FineTuneJob", "helpdesk", {"metadata": {"labels": {"kept": "yes"}}})
        newest = scene.get("FineTuneJob", "helpdesk")
        other = {"metadata": newest["metadata"] | {"uid": seen["metadata"]["uid"][::-1]}}

        for each in (seen, other):
            assert refused(lambda: scene.delete("FineTuneJob", "helpdesk", as_seen=each)) == 409  # noqa: B023 - used at once
        assert scene.get("FineTuneJob", "helpdesk") == newest
        scene.delete("FineTuneJob", "helpdesk", as_seen=newest)
        eventually(lambda: scene.look("FineTuneJob", "helpdesk") is None)

    def test_what_owns_others_stays_until_they_are_gone(self, scene: Scene) -> None:
        owner = scene.a_job()
        scene.create(a_batch_job(owner))
        uid = scene.get("Job", "prepare")["metadata"]["uid"]
        child = a_map(JobRef(name="prepare", namespace=owner.namespace, uid=uid))
        child["metadata"]["ownerReferences"][0] |= {
            "apiVersion": "batch/v1", "kind": "Job", "blockOwnerDeletion": True,
        }  # fmt: skip
        scene.create(child)
        scene.hold("ConfigMap", "report")
        scene.delete("Job", "prepare")
        eventually(lambda: "deletionTimestamp" in scene.get("ConfigMap", "report")["metadata"])
        held = scene.get("Job", "prepare")["metadata"]
        scene.delete("Job", "prepare")
        scene.hold("ConfigMap", "report", is_held=False)
        eventually(lambda: scene.look("Job", "prepare") is None)

        assert "deletionTimestamp" in held
        assert held["finalizers"] == ["foregroundDeletion"]
        assert scene.look("ConfigMap", "report") is None

    def test_what_a_job_owns_goes_with_it(self, scene: Scene) -> None:
        kept, owner = scene.a_job("kept"), scene.a_job()
        scene.apply(a_map(kept, "kept"))
        scene.apply(a_map(owner))
        scene.create(a_batch_job(owner))
        scene.delete("FineTuneJob", "helpdesk")
        eventually(lambda: scene.look("FineTuneJob", "helpdesk") is None)
        eventually(lambda: scene.names("Job", f"{LABEL_JOB}=helpdesk") == [])
        eventually(lambda: scene.look("ConfigMap", "report") is None)

        assert scene.look("ConfigMap", "kept") is not None

    def test_warnings_are_those_about_one_object(self, scene: Scene) -> None:
        place = scene.place
        for name, uid, kind in (
            ("a", "u1", "Warning"),
            ("b", "u1", "Normal"),
            ("c", "u2", "Warning"),
        ):
            place.put(an_event(place.namespace, name, uid=uid, kind=kind))
        found = place.wait(place.cluster.warnings(place.namespace, of_uid="u1"))
        others = place.wait(place.cluster.warnings(place.namespace, of_uid="u3"))

        assert [(each["metadata"]["name"], each["message"]) for each in found] == [
            ("a", "it is so")
        ]
        assert others == []

    def test_it_is_known_what_is_defined(self, scene: Scene) -> None:
        serves = scene.place.cluster.serves

        for kind in ("Job", "Pod", "FineTuneJob"):
            assert scene.place.wait(serves(kind))
        assert scene.place.wait(serves("RayJob")) is scene.place.defines("RayJob")

    def test_workloads_are_those_of_one_child_and_none_without_kueue(self, scene: Scene) -> None:
        place = scene.place
        if place.defines("Workload"):
            for uid in ("u1", "u2"):
                place.put(a_workload(place.namespace, uid))
        found = place.wait(place.cluster.workloads(place.namespace, of_uid="u1"))
        others = place.wait(place.cluster.workloads(place.namespace, of_uid="u3"))

        if place.defines("Workload"):
            assert [each["metadata"]["name"] for each in found or []] == ["of-u1"]
            assert others == []
        else:
            assert (found, others) == (None, None)
