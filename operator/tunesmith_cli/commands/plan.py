"""`tunesmith plan`: what a run would do and need, without running anything."""

import argparse
import json

from tunesmith_cli.manifests import Manifest, open_manifest
from tunesmith_cli.plan_view import Machine, PlanView, plan_as_json, plan_as_text
from tunesmith_cli.refusal import EXIT_DONE
from tunesmith_engine.capacity import free_disk_bytes, memory_bytes
from tunesmith_engine.estimates import Estimate, estimate, longest_row_of
from tunesmith_engine.local.home import Home
from tunesmith_engine.planning.defaults import describe
from tunesmith_engine.planning.plan import Plan, plan
from tunesmith_engine.sources.fingerprints import fingerprint_job
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.models import local_model_path
from tunesmith_engine.stages.catalog import PREPARE


def run(options: argparse.Namespace) -> int:
    """Read the sources, work out the keys, and print what is known."""
    view = _view(open_manifest(options.file), home=Home(options.home))
    if options.output == "json":
        print(json.dumps(plan_as_json(view), indent=1))
    else:
        print(plan_as_text(view))
    return EXIT_DONE


def _view(manifest: Manifest, *, home: Home) -> PlanView:
    spec, name = manifest.job.spec, manifest.job.metadata.name
    fingerprints = fingerprint_job(spec, base=manifest.base, cache=home.cache, secrets=home.secrets)
    planned = plan(manifest.job, fingerprints=fingerprints)
    return PlanView(
        plan=planned,
        is_cached={
            stage.name: home.result(name, stage=stage.name, key=stage.key) is not None
            for stage in planned.stages
        },
        settings=describe(spec),
        estimate=_estimate(manifest, planned, home=home),
        machine=Machine(memory_bytes=memory_bytes(), free_disk_bytes=free_disk_bytes(home.root)),
    )


def _estimate(manifest: Manifest, planned: Plan, *, home: Home) -> Estimate | None:
    spec, prepare = manifest.job.spec, planned.stage(PREPARE.name)
    path = local_model_path(spec.model, base=manifest.base, cache=home.cache)
    if path is None:
        return None
    prepared = home.result(planned.job, stage=prepare.name, key=prepare.key)
    longest = longest_row_of(prepared) if prepared else None
    return estimate(spec, read_model_facts(path), longest_row=longest)
