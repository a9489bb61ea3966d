"""Which version is to be served in the end, and why it may not be the one that was asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tunesmith_api.modeldeployment.status import RejectedVersion, RevisionStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.deployment_state import Context, DeploymentState, Refusal
from tunesmith_engine.deployment.observations import AvailableVersion
from tunesmith_engine.deployment.revisions import is_of, revision_of


@dataclass(frozen=True, slots=True)
class Choice:
    """The revision that is to serve, and its version where that is known.

    `refusal` is set where another one was asked for, or is newer, and cannot be had.
    """

    revision: str | None
    version: AvailableVersion | None = None
    refusal: Refusal | None = None


def choose(context: Context, state: DeploymentState) -> Choice:
    """The choice of now. It depends on what is stored and seen, never on the way there."""
    if not context.seen.versions_known:
        held = state.candidate or state.stable
        return Choice(held.revision if held else None)
    if context.spec.version:
        choice = _pinned(context, state)
    else:
        choice = _fallback(context, state) or _newest(context, state)
    is_new = choice.version is not None and state.stable is not None
    is_on_trial = state.candidate is not None and state.candidate.revision == choice.revision
    if not is_new or is_on_trial:
        return choice
    refusal = context.strategy_refusal(state.strategy(context))
    return _stay(state, refusal) if refusal else choice


def version_before(context: Context, state: DeploymentState) -> AvailableVersion | None:
    """The newest version that is older than stable and may be served; None if there is none."""
    if state.stable is None:
        return None
    age = _age_of(state.stable, context.seen.versions)
    older = [
        version
        for version in context.seen.versions
        if version.problem is None
        and (version.created, version.version) < age
        and rejection_of(state.rejected, revision_of(context.spec, version)) is None
    ]
    return max(older, key=lambda version: (version.created, version.version), default=None)


def _fallback(context: Context, state: DeploymentState) -> Choice | None:
    """The version before a stable that was rejected while it served; one is tried, and no more."""
    stable, version = state.stable, version_before(context, state)
    rejected = rejection_of(state.rejected, stable.revision) if stable is not None else None
    if rejected is None or version is None:
        return None
    if any(entry.time > rejected.time for entry in state.rejected):
        return None
    revision = revision_of(context.spec, version)
    return Choice(revision, version, _rejection(state, rejected.revision))


def _pinned(context: Context, state: DeploymentState) -> Choice:
    wanted = context.spec.version
    version = next((known for known in context.seen.versions if known.version == wanted), None)
    if version is None or version.problem is not None:
        # It is served as it was taken up, for as long as nobody wants it otherwise.
        stable = state.stable
        if stable is not None and stable.version == wanted and is_of(context.spec, stable):
            return _stay(state)
        return _stay(state, _unusable(context, version))
    revision = revision_of(context.spec, version)
    if rejection := _rejection(state, revision):
        return _stay(state, rejection)
    return _serve(state, revision, version)


def _unusable(context: Context, version: AvailableVersion | None) -> Refusal:
    if version is not None:
        return Refusal(Reason.VERSION_UNUSABLE, f"version {version.version}: {version.problem}")
    message = (
        f"no version {context.spec.version} of the model {context.spec.model}; publish it, or set "
        "spec.version to one that is there"
    )
    return Refusal(Reason.VERSION_NOT_FOUND, message)


def _newest(context: Context, state: DeploymentState) -> Choice:
    """The newest that was not rejected. What is older than stable is only ever asked for."""
    newest_first = sorted(
        (version for version in context.seen.versions if version.problem is None),
        key=lambda version: (version.created, version.version),
        reverse=True,
    )
    oldest = _age_of(state.stable, context.seen.versions) if state.stable is not None else None
    refusal: Refusal | None = None
    for version in newest_first:
        if oldest is not None and (version.created, version.version) < oldest:
            break
        revision = revision_of(context.spec, version)
        rejection = _rejection(state, revision)
        if rejection is None:
            return _serve(state, revision, version, refusal)
        refusal = refusal or rejection
    return _stay(state, refusal)


def _age_of(stable: RevisionStatus, versions: Iterable[AvailableVersion]) -> tuple[datetime, str]:
    """What versions that are no older than stable's are sorted at or behind."""
    for version in versions:
        if version.version == stable.version:
            return version.created, version.version
    # Its record was deleted: it was made before it was taken up.
    return stable.since, stable.version


def _serve(
    state: DeploymentState,
    revision: str,
    version: AvailableVersion,
    refusal: Refusal | None = None,
) -> Choice:
    if state.stable is not None and state.stable.revision == revision:
        return _stay(state, refusal)
    return Choice(revision, version, refusal)


def _stay(state: DeploymentState, refusal: Refusal | None = None) -> Choice:
    return Choice(state.stable.revision if state.stable else None, refusal=refusal)


def _rejection(state: DeploymentState, revision: str) -> Refusal | None:
    rejected = rejection_of(state.rejected, revision)
    if rejected is None:
        return None
    goes_on = f"{state.stable.version} goes on" if state.stable else "nothing is served"
    if state.is_stable_rejected:
        goes_on = "it serves until another version can"
    message = (
        f"{rejected.version} was taken back ({rejected.reason}: {rejected.message}); {goes_on}"
    )
    return Refusal(Reason.ROLLED_BACK, message)


def rejection_of(rejected: Iterable[RejectedVersion], revision: str) -> RejectedVersion | None:
    """Why a revision is not tried again, if so."""
    return next((entry for entry in rejected if entry.revision == revision), None)
