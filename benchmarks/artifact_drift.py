"""Versions that become others under a running replica: seconds and tokens until it says so.

Real vLLM and the 135M model. A running engine takes in other weights, or another adapter under the
same name, while clients ask it; the replica knows its own version's fingerprints alone.
`artifact_drift_versions.py` makes what is taken in.
"""

import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from commands import artifact, run_job, run_script
from pydantic.alias_generators import to_camel
from training_throughput import demo_job
from vllm_server import MODEL, Server, vllm_server

from tunesmith_serving.replica.fingerprints import Fingerprint, compare, question, read_bounds
from tunesmith_serving.replica.probe_pace import computed_tokens
from tunesmith_serving.replica.settings import ReplicaSettings

ROUNDS: Final = 3
PACE: Final[Mapping[str, float]] = {
    name: ReplicaSettings.model_fields[name].default
    for name in ("probe_seconds", "max_probe_seconds", "probe_token_fraction")
}
# Of some 50 tokens a second a thousandth is one probe in twenty minutes.
SLOW_FRACTION: Final = 0.02
# As long as a change may go on unnoticed.
LIMIT_S: Final = 300.0
ADAPTER: Final = "tuned"
_UNIT: Final = "seconds to the alarm, None: not within 300"
_DEV: Final = {"VLLM_SERVER_DEV_MODE": "1"}
_LORA: Final = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
_WORDS: Final = ("printer", "screen", "keyboard", "network", "password", "does", "not", "since")
_CLIENTS, _PROMPT_WORDS, _ANSWER_TOKENS = 4, 100, 64
OTHER_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A server, and the fingerprints that it is held to."""

    server: Server
    fingerprints: Path

    def state(self) -> dict[str, Any]:
        """What the replica says of itself."""
        found: dict[str, Any] = self.server.get("/tunesmith/state")
        return found

    def seconds_until(self, reason: str, *, within: float = LIMIT_S) -> float | None:
        """Seconds until it says `reason`; None if it does not."""
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < within:
            if self.state()["reason"] == reason:
                return round(seconds, 1)
            time.sleep(0.2)
        return None

    def tokens(self) -> tuple[float, float]:
        """What the engine has computed so far, and what of it the probes took."""
        every = computed_tokens(self.server.metrics())
        return every or 0.0, self.state()["probe"]["tokens"]


def measure(home: Path) -> dict[str, Any]:
    """By case: seconds to the alarm, how far the answers were off, and the probes' tokens."""
    versions = _versions(home)
    results: dict[str, Any] = {"unit": _UNIT, "pace": _pace(PACE)}
    with _weights(versions, PACE) as watched, _clients(watched.server):
        watched.seconds_until("Ready")
        results["same"] = _in_vain(
            watched, change=partial(_reload, watched.server, versions / "base")
        )
        for name in ("int4", "int8"):
            results[name] = _reloaded(watched, versions, name)
    results["budget"] = _budget(versions)
    return results


def _budget(versions: Path) -> dict[str, Any]:
    """Share and seconds where the traffic pays for the probes, of a server as slow as this one."""
    pace = {**PACE, "probe_token_fraction": SLOW_FRACTION}
    with _weights(versions, pace) as watched, _clients(watched.server):
        watched.seconds_until("Ready")
        same = _in_vain(watched, change=partial(_reload, watched.server, versions / "base"))
        return {
            "pace": _pace(pace),
            "same": same,
            "int4": _reloaded(watched, versions, "int4"),
        }


def measure_adapters(home: Path) -> dict[str, Any]:
    """The same of other adapters that come under the name of the version's."""
    versions = _versions(home)
    results: dict[str, Any] = {"unit": _UNIT, "pace": _pace(PACE)}
    with _adapters(versions) as watched, _clients(watched.server):
        watched.seconds_until("Ready")
        for name in ("other", "later"):
            results[name] = _changes(
                watched,
                change=partial(_load, watched.server, versions, name),
                undo=partial(_load, watched.server, versions, "own"),
            )
    return results


def measure_template(home: Path) -> dict[str, Any]:
    """Of another chat template: seconds from its fingerprints until it says so, before any client.

    An engine reads its template once, so that another one can only come with a start.
    """
    return {"unit": _UNIT, **_other_template(_versions(home))}


def _other_template(versions: Path) -> dict[str, Any]:
    template = versions / "other.jinja"
    template.write_text(OTHER_TEMPLATE)
    with _weights(versions, PACE, options=["--chat-template", str(template)]) as watched:
        seconds = watched.seconds_until("FingerprintMismatch")
        state = watched.state()
    return {"seconds": seconds, "tokens": state["probe"]["tokens"], "message": state["message"]}


def _versions(home: Path) -> Path:
    """The folder of everything that is put in place of something else, made once."""
    versions = home / "artifact-drift"
    if not (versions / "adapters" / "own" / "reference.json").exists():
        outcome = run_job(demo_job(home, seed=0), home=home, until="prepare")
        words = (artifact(outcome, "model"), artifact(outcome, "data"), versions)
        run_script("trainer", "artifact_drift_versions.py", *words)
    return versions


def _reloaded(watched: Watched, versions: Path, name: str) -> dict[str, Any]:
    return _changes(
        watched,
        change=partial(_reload, watched.server, versions / name),
        undo=partial(_reload, watched.server, versions / "base"),
    )


def _pace(pace: Mapping[str, float]) -> dict[str, float]:
    return {to_camel(name): value for name, value in pace.items()}


@contextmanager
def _weights(
    versions: Path, pace: Mapping[str, float], *, options: Sequence[str] = ()
) -> Iterator[Watched]:
    folder = versions / "base"
    path = versions / "base-fingerprints.json"
    path.unlink(missing_ok=True)
    settings = {"version": "base", "model": MODEL, "fingerprints": path, **pace}
    replica = ReplicaSettings.model_validate(settings)
    with vllm_server(folder, replica, options=options, environment=_DEV) as server:
        _fingerprint(server, folder / "reference.json", path, model=MODEL)
        yield Watched(server, path)


@contextmanager
def _adapters(versions: Path) -> Iterator[Watched]:
    path = versions / "own-fingerprints.json"
    path.unlink(missing_ok=True)
    replica = ReplicaSettings(version="own", model=MODEL, engine_model=ADAPTER, fingerprints=path)
    config = json.loads((versions / "adapters" / "own" / "adapter_config.json").read_text())
    options = ["--enable-lora", "--max-lora-rank", "8"]
    # NB: without the head, or fingerprints end the engine; see `adapted_modules`.
    options += ["--lora-target-modules", *sorted(config["target_modules"])]
    with vllm_server(versions / "base", replica, options=options, environment=_LORA) as server:
        _load(server, versions, "own", again=False)
        reference = versions / "adapters" / "own" / "reference.json"
        _fingerprint(server, reference, path, model=ADAPTER)
        yield Watched(server, path)


def _fingerprint(server: Server, reference: Path, path: Path, *, model: str) -> None:
    """Write what verify would: the reference's answers as this engine sees them, and the noise."""
    known = json.loads(reference.read_text())
    asked = [Fingerprint.model_validate(prompt) for prompt in known["prompts"]]
    answer = json.loads(server.post("/v1/completions", question(asked, model=model)))
    compared = compare(asked, answer)
    views = {choice["index"]: choice["prompt_logprobs"] for choice in answer["choices"]}
    probes = []
    for index, probe in enumerate(asked):
        seen = views[index][len(probe.prompt_ids) :]
        pairs = zip(probe.answer_ids, seen, strict=True)
        logprobs = [view[str(token)]["logprob"] for token, view in pairs]
        probes.append({**known["prompts"][index], "logprobs": logprobs})
    _replace(path, {"noise": compared.mean, "probes": probes, "chats": known["chats"]})


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """At once: the replica may read it at any moment."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)


def _reload(server: Server, folder: Path) -> None:
    body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    server.post("/collective_rpc", body)


def _load(server: Server, versions: Path, name: str, *, again: bool = True) -> None:
    path = str(versions / "adapters" / name)
    body = {"lora_name": ADAPTER, "lora_path": path, "load_inplace": again}
    server.post("/v1/load_lora_adapter", body)


def _in_vain(watched: Watched, *, change: Callable[[], None]) -> dict[str, Any]:
    """What a change that changes nothing shows: no alarm, and the share of the probes' tokens."""
    change()
    before, began = watched.tokens(), time.monotonic()
    alarm = watched.seconds_until("FingerprintMismatch")
    after, seconds = watched.tokens(), time.monotonic() - began
    every, probed = (late - early for late, early in zip(after, before, strict=True))
    found = {
        "secondsToAlarm": alarm,
        "allowedNats": round(read_bounds(watched.fingerprints).mean, 4),
        "evidence": _evidence(watched),
        "tokensPerSecond": round(every / seconds, 1),
        "probeTokensPerSecond": round(probed / seconds, 2),
        "percentOfTokens": round(100 * probed / every, 3),
        # From this traffic on it is a thousandth.
        "thousandthFromTokensPerSecond": round(1000 * probed / seconds),
    }
    print(f"bench: artifactDrift: same: {found}", file=sys.stderr, flush=True)
    return found


def _changes(
    watched: Watched, *, change: Callable[[], None], undo: Callable[[], None]
) -> dict[str, Any]:
    rounds: list[dict[str, Any]] = []
    for number in range(ROUNDS):
        # Past the first pause, which nobody has to pay for, and at another time of the next.
        pause = random.Random(number).uniform(0, PACE["max_probe_seconds"])
        time.sleep(PACE["probe_seconds"] + pause)
        change()
        probed = watched.tokens()[1]
        began = _evidence(watched)["probes"]
        seconds = watched.seconds_until("FingerprintMismatch")
        rounds.append(
            {
                "seconds": seconds,
                "tokens": watched.tokens()[1] - probed,
                "probesAsked": _evidence(watched)["probes"] - began,
                "evidence": _evidence(watched),
            }
        )
        print(f"bench: artifactDrift: {rounds[-1]}", file=sys.stderr, flush=True)
        undo()
        watched.seconds_until("Ready")
        if seconds is None:
            break
    known = [each["seconds"] for each in rounds if each["seconds"] is not None]
    return {"medianSeconds": statistics.median(known) if known else None, "rounds": rounds}


def _evidence(watched: Watched) -> Mapping[str, Any]:
    probe = watched.state()["probe"]
    return {name: probe[name] for name in ("meanNats", "worstNats", "lossNats", "probes")}


@contextmanager
def _clients(server: Server) -> Iterator[None]:
    """Clients that ask one thing after another until the end."""
    done = threading.Event()

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        while not done.is_set():
            text = " ".join(draw.choices(_WORDS, k=_PROMPT_WORDS))
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": _ANSWER_TOKENS,
                "ignore_eos": True,
            }
            server.post("/v1/chat/completions", body)

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    print(json.dumps(measure(Path()), indent=2))
