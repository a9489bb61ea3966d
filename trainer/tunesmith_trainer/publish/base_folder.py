"""The base of adapters: a folder beside the versions, once for all of them that share it.

It is called by its digest, so that whoever publishes an equal one finds it there.
"""

from pathlib import Path
from typing import Final

from tunesmith_engine.sources.adapter_version import BASES, base_name
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.resolver import open_target
from tunesmith_engine.sources.target import ProgressCallback
from tunesmith_engine.sources.version_manifest import MANIFEST
from tunesmith_engine.sources.version_signature import Signer
from tunesmith_engine.stages.catalog import PREPARE, VERIFY
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import files_below, local_path
from tunesmith_trainer.publish.published_base import PublishedBase
from tunesmith_trainer.publish.signed_folder import signed_manifest
from tunesmith_trainer.publish.version_folder import CODE, SERVING, link, write_json

# What prepare fetches beside the model for people to read, or leaves for itself.
_LEFT_OUT: Final = (".md", ".gguf", ".lock", ".metadata")


def deliver_base(
    request: StageRequest,
    folder: Path,
    *,
    uri: str,
    secret: Secret,
    signer: Signer | None,
    progress: ProgressCallback,
) -> PublishedBase:
    """Bring the base model of the job to `uri`/bases, unless it is there.

    Beside a repository of the hub or of a registry nothing is kept: the base stays where it is.

    `folder` is where its files are gathered.

    Raises:
        SourceError: as of `Target.deliver`.
        OSError: the disk is full, or an artifact is gone.
    """
    gather_base(request, folder)
    manifest = signed_manifest(folder, signer)
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    num_bytes = sum(file.bytes for file in manifest.files.values())
    if request.spec.output.is_repository:
        # Versions are tags there, and a second copy of somebody's base is nobody's wish.
        return PublishedBase(request.spec.model.uri, manifest.digest(), num_bytes)
    target = open_target(f"{uri.rstrip('/')}/{BASES}", base=Path(request.base), secret=secret)
    name = base_name(manifest.digest())
    target.deliver(folder, name, manifest=manifest, progress=progress)
    return PublishedBase(target.uri_of(name), manifest.digest(), num_bytes)


def gather_base(request: StageRequest, folder: Path) -> None:
    """Link weights, tokenizer and chat template into `folder`, and how vLLM runs them."""
    source = local_path(request.inputs[PREPARE.name].artifact("model"))
    for path in files_below(source):
        name = path.relative_to(source)
        is_hidden = any(part.startswith(".") for part in name.parts)
        # What can run code is left behind: safetensors and text are all that vLLM needs.
        # NB: nor what is written here afterwards: through the link it would be written into the
        # model that the job was given.
        if (
            not is_hidden
            and path.suffix not in {*CODE, *_LEFT_OUT}
            and name.as_posix() not in {MANIFEST, SERVING}
        ):
            link(path, folder / name)
    facts = request.inputs[VERIFY.name].facts
    # Of the run with the adapter, whose base this is.
    adapter = facts.get("adapter")
    settings = adapter["settings"] if isinstance(adapter, dict) else facts["settings"]
    write_json(folder / SERVING, settings)
