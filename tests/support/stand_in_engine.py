"""A stand-in for vLLM's OpenAI server, as a process: `python tests/support/stand_in_engine.py`.

`stand_in.py` is the application; around it is the middleware of a real replica. SIGTERM does what
it does to vLLM. Without `--fingerprints` it knows some of its own.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from prometheus_client import REGISTRY

from stand_in import Faults, StandIn
from tunesmith_engine.deployment.adapter_list import WantedAdapter
from tunesmith_engine.drift.sketches import REFERENCE_FILE
from tunesmith_serving.replica import adapter_slots
from tunesmith_serving.replica.adapter_files import AdapterFiles, prove_adapter
from tunesmith_serving.replica.adapter_host import AdapterHost
from tunesmith_serving.replica.fingerprints import read_fingerprints
from tunesmith_serving.replica.host_settings import HostSettings
from tunesmith_serving.replica.in_process import Application
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.rendered_chats import read_chats
from tunesmith_serving.replica.settings import ReplicaSettings

_FINGERPRINTS = {
    "probes": [
        {"promptIds": [1, 2, 3], "answerIds": [4, 5], "logprobs": [-0.5, -0.25]},
        {"promptIds": [6, 7], "answerIds": [8], "logprobs": [-1.5]},
    ],
    "chats": [{"messages": [{"role": "user", "content": "Hello?"}], "promptIds": [9, 10, 11]}],
}


def main() -> None:
    """Serve until SIGTERM."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        known = arguments.fingerprints or Path(folder) / "fingerprints.json"
        if arguments.fingerprints is None:
            known.write_text(json.dumps(_FINGERPRINTS))
        if arguments.reference is not None:
            known.with_name(REFERENCE_FILE).write_text(arguments.reference.read_text())
        engine = StandIn(
            model=arguments.model,
            faults=Faults(
                **{field.name: getattr(arguments, field.name) for field in fields(Faults)}
            ),
            known=read_fingerprints(known, max_model_length=None),
            chats=read_chats(known, max_model_length=None),
            shutdown_timeout=arguments.shutdown_timeout,
            api_key=os.environ.get("VLLM_API_KEY"),
            seed=arguments.seed,
        )
        uvloop.run(_serve(_middleware(engine, arguments, known), engine, arguments))


def _middleware(engine: StandIn, arguments: argparse.Namespace, known: Path) -> Application:
    given = {
        "digest": arguments.digest,
        "revision": arguments.revision,
        "model": arguments.model,
        "probe_seconds": arguments.probe_seconds,
        # A fixed pace: its clients write too little to pay for any.
        "max_probe_seconds": arguments.probe_seconds,
        "progress_seconds": arguments.progress_seconds,
    }
    if arguments.volume is not None:
        # As if it were mounted there.
        setattr(adapter_slots, "prove_adapter", partial(_prove, volume=arguments.volume))  # noqa: B010
    if arguments.lora:
        return AdapterHost(engine, HostSettings(**given), registry=REGISTRY)
    settings = ReplicaSettings(
        version=arguments.version,
        fingerprints=known,
        stable_url=arguments.compare_with,
        compare_fraction=arguments.compare_fraction,
        compare_seconds=arguments.compare_seconds,
        **given,
    )
    return Replica(engine, settings, registry=REGISTRY)


def _prove(
    wanted: WantedAdapter, *, base_digest: str, public_keys: Sequence[str], volume: Path
) -> AdapterFiles:
    folder = str(volume / Path(wanted.folder).relative_to("/workspace"))
    there = wanted.model_copy(update={"folder": folder})
    return prove_adapter(there, base_digest=base_digest, public_keys=public_keys)


async def _serve(app: Application, engine: StandIn, arguments: argparse.Namespace) -> None:
    # vLLM loads its model before it listens.
    await asyncio.sleep(arguments.start_seconds)
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        access_log=False,
        # vLLM's.
        timeout_keep_alive=5,
    )
    server = _Server(config)

    async def stop() -> None:
        await engine.stop()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stopping.append(loop.create_task(stop())))
    await server.serve()


class _Server(uvicorn.Server):
    """Leaves signals to vLLM's own handlers, as vLLM's server does."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Stand in for vLLM's OpenAI server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--digest", default="")
    parser.add_argument("--volume", type=Path, help="what pods have at /workspace")
    parser.add_argument("--lora", action="store_true", help="a base that adapters are loaded on")
    parser.add_argument("--revision", default="")
    parser.add_argument("--model", default="helpdesk")
    parser.add_argument("--fingerprints", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--probe-seconds", type=float, default=30.0)
    parser.add_argument("--progress-seconds", type=float, default=120.0)
    parser.add_argument("--compare-with")
    parser.add_argument("--compare-fraction", type=float, default=0.1)
    parser.add_argument("--compare-seconds", type=float, default=5.0)
    parser.add_argument("--shutdown-timeout", type=float, default=0.0)
    parser.add_argument("--start-seconds", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    for field in fields(Faults):
        if field.type in {bool, "bool"}:
            parser.add_argument(f"--{field.name}", action="store_true")
        else:
            parser.add_argument(f"--{field.name}", type=float, default=field.default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
