"""A replica that holds adapters: what it is told, what clients get, what it keeps from them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from laptop import make_adapter
from stand_in import Faults, StandIn
from tunesmith_engine.deployment.adapter_list import REVISION_HEADER, AdapterList, WantedAdapter
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of
from tunesmith_serving.replica.adapter_host import AdapterHost
from tunesmith_serving.replica.host_settings import HostSettings
from tunesmith_serving.replica.in_process import Message, Response

BASE = f"sha256:{'b' * 64}"
MODEL = "helpdesk"
ONE, TWO = "11111111", "22222222"
COMPLETIONS = "/v1/completions"
ASKED = {"model": MODEL, "prompt": [1, 2], "max_tokens": 4}

pytestmark = pytest.mark.timeout(30)
Scenario = Callable[["Client"], Awaitable[None]]


class Client:
    """Asks a replica from inside of the process."""

    def __init__(self, folder: Path, *, max_probe_seconds: float) -> None:
        self.folder = folder
        self.engine = StandIn(model=MODEL, faults=Faults())
        self.registry = CollectorRegistry()
        settings = HostSettings(
            digest=BASE,
            revision="bbbbbbbb",
            model=MODEL,
            probe_seconds=0.05,
            max_probe_seconds=max_probe_seconds,
            probe_token_fraction=0.5,
        )
        self.host = AdapterHost(self.engine, settings, registry=self.registry)

    def wanted(
        self, revision: str, *, is_routed: bool = False, base: str = BASE, **faults: Any
    ) -> WantedAdapter:
        """An adapter of that revision, whose files are made if they are not there."""
        folder = self.folder / revision
        if not folder.exists():
            make_adapter(folder, base_digest=base, **faults)
            (folder / MANIFEST).write_text(manifest_of(folder).text())
        return WantedAdapter(
            revision=revision,
            version=f"v{revision[0]}",
            digest=manifest_of(folder).digest(),
            folder=str(folder),
            is_routed=is_routed,
        )

    async def tell(self, *adapters: WantedAdapter) -> None:
        text = AdapterList(adapters=adapters).model_dump_json(by_alias=True)
        answer = await self.ask("/tunesmith/adapters", text.encode(), method="PUT")
        assert answer.status == 202

    async def state(self) -> Any:
        return json.loads((await self.ask("/tunesmith/state")).body)

    async def becomes(self, **reasons: str) -> None:
        """Wait until the adapters of these revisions, and no others, are held so."""
        async with asyncio.timeout(5):
            while True:
                told = {each["revision"]: each for each in (await self.state())["adapters"]}
                if {f"r{name}": each["reason"] for name, each in told.items()} == reasons:
                    return
                await asyncio.sleep(0.01)

    async def complete(self, revision: str | None = None, **fields: Any) -> Response:
        headers = {} if revision is None else {REVISION_HEADER: revision}
        body = json.dumps({**ASKED, **fields}).encode()
        return await self.ask(COMPLETIONS, body, headers=headers)

    async def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A request, whose response has to keep the length that it names."""
        bare, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method or ("GET" if body is None else "POST"),
            "path": bare,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
        }
        pending: list[Message] = [{"type": "http.request", "body": body or b""}]
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Message:
            if pending:
                return pending.pop()
            return await asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            sent.append(dict(message))

        await self.host(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent)
        self.headers = dict(sent[0]["headers"])
        length = self.headers.get(b"content-length")
        assert length in {None, b"%d" % len(content)}
        return Response(sent[0]["status"], content)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    def run(scenario: Scenario, *, max_probe_seconds: float = 0.05) -> None:
        async def main() -> None:
            client = Client(tmp_path, max_probe_seconds=max_probe_seconds)
            await scenario(client)
            client.host.end()

        asyncio.run(main())

    return run


Play = Callable[..., None]


def test_nothing_is_ready_before_somebody_says_what_to_hold(play: Play) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.ask("/tunesmith/ready")
        assert (answer.status, json.loads(answer.body)["reason"]) == (503, "Starting")
        assert (await client.state())["adapterList"] is None
        assert (await client.complete(ONE)).status == 503

    play(scenario)


def test_each_request_gets_the_adapter_of_its_route_under_the_public_name(play: Play) -> None:
    async def scenario(client: Client) -> None:
        await client.tell(client.wanted(ONE), client.wanted(TWO))
        await client.becomes(r11111111="Ready", r22222222="Ready")
        for revision, version in ((ONE, b"v1"), (TWO, b"v2")):
            answer = await client.complete(revision)
            assert json.loads(answer.body)["model"] == MODEL
            assert client.headers[b"x-tunesmith-version"] == version
            streamed = await client.complete(revision, stream=True)
            assert b"@" not in streamed.body
            assert streamed.body.count(f'"model":"{MODEL}"'.encode()) >= 4
        # Without a word of the route nobody knows which.
        assert (await client.complete()).status == 503
        assert (await client.complete("33333333")).status == 503

    play(scenario)


def test_clients_know_one_model_and_reach_no_adapter_by_its_own_name(play: Play) -> None:
    async def scenario(client: Client) -> None:
        await client.tell(client.wanted(ONE), client.wanted(TWO))
        await client.becomes(r11111111="Ready", r22222222="Ready")
        headers = {REVISION_HEADER: ONE}
        models = json.loads((await client.ask("/v1/models", headers=headers)).body)
        assert [card["id"] for card in models["data"]] == [MODEL]
        for name in ("other", f"{MODEL}@{TWO}"):
            answer = await client.complete(ONE, model=name)
            assert json.loads(answer.body)["error"]["code"] == 404
        # vLLM would take the base for these.
        for missing in ("", None):
            answer = await client.complete(ONE, model=missing)
            assert json.loads(answer.body)["model"] == MODEL
        assert (await client.ask(COMPLETIONS, b"[1]", headers=headers)).status == 400
        for path in (
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/adapters",
            "/adapters/x",
        ):
            assert (await client.ask(path, b"{}", headers=headers)).status == 404

    play(scenario)


def test_a_bad_adapter_on_trial_takes_nothing_from_the_one_that_is_routed(play: Play) -> None:
    async def scenario(client: Client) -> None:
        good = client.wanted(ONE, is_routed=True)
        await client.tell(good, client.wanted(TWO, nonsense=True))
        await client.becomes(r11111111="Ready", r22222222="FingerprintMismatch")
        assert (await client.ask("/tunesmith/ready")).status == 200
        assert (await client.ask(f"/tunesmith/ready?adapter={ONE}")).status == 200
        assert (await client.ask(f"/tunesmith/ready?adapter={TWO}")).status == 503
        # Nor if it was routed before it went wrong. One that is on its way is waited for.
        bad = client.wanted(TWO, is_routed=True)
        await client.tell(good, bad)
        assert (await client.ask("/tunesmith/ready")).status == 200
        late = bad.model_copy(update={"revision": "33333333", "folder": "/nowhere"})
        await client.tell(good, late)
        answer = await client.ask("/tunesmith/ready")
        assert json.loads(answer.body)["reason"] == "AdapterLoading"
        await client.tell(bad)
        answer = await client.ask("/tunesmith/ready")
        assert json.loads(answer.body)["reason"] == "FingerprintMismatch"

    play(scenario)


def test_other_bytes_and_another_base_are_refused(play: Play) -> None:
    async def scenario(client: Client) -> None:
        changed = client.wanted(ONE)
        (Path(changed.folder) / "adapter" / "adapter_config.json").write_text('{"r": 9}')
        foreign = client.wanted(TWO, base=f"sha256:{'c' * 64}")
        added = client.wanted("33333333")
        (Path(added.folder) / "adapter" / "extra.safetensors").write_text("")
        gone = client.wanted("44444444").model_copy(update={"folder": "/nowhere"})
        await client.tell(changed, foreign, added, gone)
        await client.becomes(
            r11111111="AdapterRefused",
            r22222222="AdapterRefused",
            r33333333="AdapterRefused",
            # A volume may be mounted late.
            r44444444="AdapterLoading",
        )
        assert not client.engine.adapters

    play(scenario)


def test_an_adapter_is_unloaded_once_its_requests_have_ended(play: Play) -> None:
    async def scenario(client: Client) -> None:
        await client.tell(client.wanted(ONE, ttft=0.3), client.wanted(TWO))
        await client.becomes(r11111111="Ready", r22222222="Ready")
        under_way = asyncio.create_task(client.complete(ONE))
        await asyncio.sleep(0.05)
        await client.tell(client.wanted(TWO))
        assert (await client.complete(ONE)).status == 503
        assert (await client.ask(f"/tunesmith/ready?adapter={ONE}")).status == 503
        told = {each["revision"]: each["running"] for each in (await client.state())["adapters"]}
        assert told == {ONE: 1, TWO: 0}
        assert (await under_way).status == 200
        await client.becomes(r22222222="Ready")
        assert client.engine.adapters == [f"{MODEL}@{TWO}"]

    play(scenario)


def test_samples_and_metrics_are_told_apart_by_version(play: Play) -> None:
    async def scenario(client: Client) -> None:
        await client.tell(client.wanted(ONE), client.wanted(TWO))
        await client.becomes(r11111111="Ready", r22222222="Ready")
        for revision in (ONE, TWO, TWO):
            await client.complete(revision)
        counts = [
            len(
                json.loads((await client.ask(f"/tunesmith/samples?adapter={name}")).body)["samples"]
            )
            for name in (ONE, TWO)
        ]
        assert counts == [1, 2]
        text = generate_latest(client.registry).decode()
        assert text.count("# TYPE tunesmith_requests_total") == 1
        for version, count in (("v1", 1), ("v2", 2)):
            labels = f'{{model="{MODEL}",outcome="complete",version="{version}"}}'
            assert f"tunesmith_requests_total{labels} {count}.0" in text

    play(scenario)


def test_a_drain_is_of_all_adapters_and_of_those_that_come(play: Play) -> None:
    async def scenario(client: Client) -> None:
        await client.tell(client.wanted(ONE))
        await client.becomes(r11111111="Ready")
        assert (await client.ask("/tunesmith/drain", b"")).status == 200
        await client.tell(client.wanted(ONE), client.wanted(TWO))
        await client.becomes(r11111111="Draining", r22222222="Draining")
        assert (await client.ask("/tunesmith/ready")).status == 503
        assert (await client.state())["draining"]

    play(scenario)


def test_adapters_share_the_tokens_that_pay_for_their_fingerprints(play: Play) -> None:
    async def scenario(client: Client) -> None:
        async def num_probes() -> list[int]:
            await asyncio.sleep(0.3)
            return [each["probe"]["probes"] for each in (await client.state())["adapters"]]

        await client.tell(client.wanted(ONE), client.wanted(TWO))
        await client.becomes(r11111111="Ready", r22222222="Ready")
        # One each while it was not ready, and one that took six tokens.
        assert await num_probes() == [2, 2]
        # Enough for one of them, were it alone.
        await client.complete(ONE, max_tokens=16)
        assert await num_probes() == [2, 2]
        await client.complete(TWO, max_tokens=16)
        assert await num_probes() == [3, 3]

    play(scenario, max_probe_seconds=60)
