"""A stage that is switched on, off or changed repeats itself and what reads it, nothing else."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.stages.catalog import CATALOG, COMPRESS
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.stage import Catalog, Compute, Stage

FINGERPRINTS = {"model": "m", "dataset.train": "t"}

# Parts of a spec that may be put together in any way.
PARTS: list[dict[str, Any]] = [
    {"training": {"lora": {"rank": 8}}},
    {"training": {"method": "full", "seed": 3}},
    {"evaluation": {"gates": []}},
    {"compression": {"quantize": {"scheme": "W4A16"}}},
    {"verification": {"prompts": 5}},
    {"resources": {"workers": 2}},
    {"checkpoint": {"keep": 5}},
]
specs = st.lists(st.sampled_from(PARTS), unique_by=lambda part: next(iter(part))).map(
    lambda parts: {name: value for part in parts for name, value in part.items()}
)


def is_wanted(spec: FineTuneJobSpec) -> bool:
    return spec.backoff_limit > 5


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """The catalogue with one side stage at any place that reads, and is read, at random."""
    rows = list(CATALOG)
    place = draw(st.integers(0, len(rows) - 1))
    before = [row.name for row in rows[:place]]
    side = Stage(
        name="side",
        phase="Sidestepping",
        condition="Sidestepped",
        environment=Environment.TRAINER,
        function="side.stage:side",
        weight=1.0,
        # No other stage digests this field, and it changes nothing else.
        fields=("backoffLimit",),
        reads=tuple(draw(st.sets(st.sampled_from(before)))) if before else (),
        compute=draw(st.sampled_from(Compute)),
        memory=COMPRESS.memory,
        applies=is_wanted,
    )
    readers = draw(st.sets(st.sampled_from(rows[place:])))
    later = [
        replace(row, reads=(*row.reads, "side")) if row in readers else row for row in rows[place:]
    ]
    return Catalog([*rows[:place], side, *later])


def keys_of(catalog: Catalog, spec: dict[str, Any]) -> dict[str, str]:
    job = FineTuneJob.model_validate(a_job(**spec))
    planned = plan(job, fingerprints=FINGERPRINTS, catalog=catalog)
    return {stage.name: stage.key for stage in planned.stages}


def readers_of(catalog: Catalog, name: str, *, among: Iterable[str]) -> set[str]:
    """The stages among these that read it, or read one that does."""
    reached = {name}
    for stage in (catalog[applying] for applying in among):
        if reached & set(stage.reads):
            reached.add(stage.name)
    return reached - {name}


@given(catalog=catalogs(), spec=specs)
def test_switching_a_side_stage_on_repeats_what_reads_it_and_nothing_else(
    catalog: Catalog, spec: dict[str, Any]
) -> None:
    off, on = keys_of(catalog, spec), keys_of(catalog, spec | {"backoffLimit": 6})

    assert set(on) - set(off) == {"side"}
    assert {name for name in off if off[name] != on[name]} == readers_of(catalog, "side", among=on)


@given(catalog=catalogs(), spec=specs)
def test_changing_a_side_stage_repeats_it_and_what_reads_it_and_nothing_else(
    catalog: Catalog, spec: dict[str, Any]
) -> None:
    before, after = (keys_of(catalog, spec | {"backoffLimit": limit}) for limit in (6, 7))

    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"side"} | readers_of(catalog, "side", among=after)


@given(catalog=catalogs(), spec=specs)
def test_a_side_stage_that_does_not_apply_leaves_every_key_as_it_is_without_it(
    catalog: Catalog, spec: dict[str, Any]
) -> None:
    assert keys_of(catalog, spec) == keys_of(CATALOG, spec)


@given(catalog=catalogs(), spec=specs)
def test_a_stage_is_given_what_it_reads_and_no_more(catalog: Catalog, spec: dict[str, Any]) -> None:
    job = FineTuneJob.model_validate(a_job(**spec))
    planned = plan(job, fingerprints=FINGERPRINTS, catalog=catalog)

    for stage in planned.stages:
        read = [other.name for other in planned.read_by(stage)]
        assert set(read) == set(stage.stage.reads) & set(keys_of(catalog, spec))
