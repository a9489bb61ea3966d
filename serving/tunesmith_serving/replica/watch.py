"""The replica's own questions to its engine, for as long as the process runs.

All fingerprints first, and what it makes of known conversations, again and again until they are
right; later one fingerprint in turn, which takes less than a client's request, at `ProbePace`. One
that is another than it was sets off all of them: a single answer says less than the bound on their
mean. Answers and counters go into `Readiness`.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tunesmith_engine.deployment.replica_report import ReadyReason
from tunesmith_serving.replica.bias_watch import gap_of, pair_question, read_pairs
from tunesmith_serving.replica.fingerprints import (
    Bounds,
    Fingerprint,
    compare,
    probed,
    question,
    read_bounds,
    read_fingerprints,
)
from tunesmith_serving.replica.in_process import Application, Response, request
from tunesmith_serving.replica.probe_pace import ProbePace, computed_tokens
from tunesmith_serving.replica.readiness import Readiness, Verdict
from tunesmith_serving.replica.rendered_chats import CHAT, is_rendered, read_chats
from tunesmith_serving.replica.rendered_chats import question as chat_question
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.tap.probe_metrics import ProbeMetrics
from tunesmith_serving.verify.reference_generations import KnownChat

LOGGER = logging.getLogger(__name__)
# Counters of vLLM that every step of its engine advances. Answers that are not streamed show no
# token before their end.
_STEPS: Final = (b"vllm:iteration_tokens_total_count", b"vllm:generation_tokens_total")
_OK: Final = 200
_SERVER_ERROR: Final = 500
# More questions than the engine takes (429, 503): that says nothing about its answers.
_BUSY: Final = (429, 503)
_CHAT_TRIES: Final = 5
# Seconds between two proofs of a replica that is not ready: nobody is served meanwhile.
_UNREADY_PAUSE_S: Final = 2.0
# Looks at the counters within the time that proves a hang.
_LOOKS: Final = 8


class Watch:
    """Asks `app`, which is vLLM's own application without this middleware.

    `num_sharing` says how many of these there are of one engine, which share its tokens.
    """

    def __init__(
        self,
        app: Application,
        settings: ReplicaSettings,
        *,
        readiness: Readiness,
        metrics: ProbeMetrics,
        clock: Callable[[], float],
        num_sharing: Callable[[], int],
    ) -> None:
        self._app = app
        self._settings = settings
        self._readiness = readiness
        self._metrics = metrics
        self._clock = clock
        self._num_sharing = num_sharing
        self._pace = ProbePace(
            shortest_seconds=settings.probe_seconds,
            longest_seconds=settings.max_probe_seconds,
            fraction=settings.probe_token_fraction,
        )
        self._steps = b""
        self._turn = 0
        self.shared: Mapping[str, Any] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        await asyncio.gather(self._ask_for_ever(), self._look_for_ever())

    async def _ask_for_ever(self) -> None:
        while True:
            was_ready, before = self._readiness.proof.is_ready, self._readiness.evidence.num_tokens
            await self.ask()
            if self._readiness.proof.is_ready:
                spent = self._readiness.evidence.num_tokens - before
                # While it is not ready, nobody is served who could pay.
                await self._rest(spent if was_ready else 0)
            else:
                await asyncio.sleep(min(self._settings.probe_seconds, _UNREADY_PAUSE_S))

    async def _rest(self, spent: int) -> None:
        """Let time and tokens pass until the next fingerprint is due."""
        began, before = self._clock(), await self._computed()
        while True:
            await asyncio.sleep(self._pace.pause(seconds=self._clock() - began))
            now = await self._computed()
            # NB: what is missing from one reading is not news in the next.
            before = now if before is None else before
            served = 0.0 if now is None or before is None else now - before
            seconds = self._clock() - began
            share = served / self._num_sharing()
            if self._pace.is_due(seconds=seconds, spent=spent, served=share):
                return

    async def _computed(self) -> float | None:
        """Tokens by the engine's counters; None without any: then time alone decides."""
        return computed_tokens((await self._metrics_page()).decode())

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.progress_seconds / _LOOKS)
            await self.look()

    async def ask(self) -> None:
        """Ask for fingerprints, and keep what follows from the answer."""
        timeout = self._settings.progress_seconds
        try:
            # NB: not `wait_for`, which in Python 3.11 loses a cancellation that comes as its task
            # ends. The loop would then go on for ever, and the server with it.
            async with asyncio.timeout(timeout):
                proof = await self._proof()
        except TimeoutError:
            # An engine with a long queue is late, and gets on.
            if self._clock() - self._readiness.heartbeat.last < timeout:
                return
            proof = Verdict(
                ReadyReason.NO_PROGRESS,
                f"the engine did not make one token within {timeout:g} s; restart it",
            )
        except Exception as error:  # noqa: BLE001 - whatever the engine raises, it did not answer
            # The class alone: a message may quote a request.
            proof = Verdict(
                ReadyReason.GENERATION_FAILED, f"the engine raised {type(error).__name__}"
            )
        if proof is None:
            return
        if proof.reason is not self._readiness.proof.reason:
            level = logging.INFO if proof.is_ready else logging.WARNING
            LOGGER.log(level, "%s: %s", proof.reason, proof.message)
        self._readiness.proof = proof

    async def look(self) -> None:
        """Read the engine's counters: a heartbeat if they have moved."""
        if not self._readiness.heartbeat.num_running:
            return
        page = await self._metrics_page()
        if not page:
            # Then tokens alone tell.
            return
        steps = b"\n".join(line for line in page.splitlines() if line.startswith(_STEPS))
        if steps != self._steps:
            self._steps = steps
            self._readiness.heartbeat.beat(self._clock())

    async def _metrics_page(self) -> bytes:
        """The engine's counters; empty if it gives none."""
        try:
            async with asyncio.timeout(self._settings.progress_seconds):
                return (await self._request("/metrics", method="GET")).body
        except Exception as error:  # noqa: BLE001 - it goes on without
            LOGGER.debug("no counters: %s", type(error).__name__)
            return b""

    async def _proof(self) -> Verdict | None:
        """What the answers prove; None if they prove nothing."""
        try:
            # Read again each time: a file that was replaced under a running engine is noticed.
            path, longest = self._settings.fingerprints, self._settings.max_model_length
            known = read_fingerprints(path, max_model_length=longest)
            chats = read_chats(path, max_model_length=longest)
            bounds = read_bounds(path)
        except (OSError, ValueError) as error:
            return Verdict(
                ReadyReason.FINGERPRINTS_UNREADABLE,
                f"{path.name} cannot be used ({type(error).__name__})",
            )
        if self._readiness.proof.is_ready:
            self._turn = (self._turn + 1) % len(known)
            verdict = await self._asked({self._turn: known[self._turn]}, bounds=bounds)
            is_other = self._readiness.evidence.is_other(self._turn, least=bounds.noise)
            if verdict is None or (verdict.is_ready and not is_other):
                if verdict is not None:
                    await self._ask_pair(path)
                return verdict
        verdict = await self._asked(dict(enumerate(known)), bounds=bounds)
        if verdict is None or not verdict.is_ready:
            return verdict
        self._readiness.evidence.settle()
        # Not in turn later: an engine reads its chat template once.
        return await self._chatted(chats, sound=verdict)

    async def _asked(self, asked: Mapping[int, Fingerprint], *, bounds: Bounds) -> Verdict | None:
        probes = list(asked.values())
        body = json.dumps(question(probes, model=self._settings.asked_model)).encode()
        answer = await self._request("/v1/completions", method="POST", body=body)
        if answer.status in _BUSY:
            return None
        if answer.status != _OK:
            return Verdict(
                ReadyReason.GENERATION_FAILED, f"the engine answered with status {answer.status}"
            )
        content = json.loads(answer.body)
        comparison = compare(probes, content, bounds=bounds)
        prompts = dict(zip(asked, probed(probes, content), strict=True))
        self._metrics.note(prompts)
        now = self._clock()
        self._readiness.heartbeat.beat(now)
        self._readiness.evidence.note(
            prompts, tokens=sum(probe.num_tokens for probe in probes), now=now
        )
        return Verdict(
            ReadyReason.READY if comparison.holds else ReadyReason.FINGERPRINT_MISMATCH,
            str(comparison),
        )

    async def _ask_pair(self, path: Path) -> None:
        """Ask for the next pair of the fairness suites; what it says makes no replica unready."""
        try:
            pairs = read_pairs(path, max_model_length=self._settings.max_model_length)
            if not pairs:
                return
            bias = self._readiness.evidence.bias
            place = bias.num_asked % len(pairs)
            body = json.dumps(pair_question(pairs[place], model=self._settings.asked_model))
            answer = await self._request("/v1/completions", method="POST", body=body.encode())
            if answer.status != _OK:
                return
            bias.note(place, pairs[place], gap_of(pairs[place], json.loads(answer.body)))
        except (OSError, LookupError, TypeError, ValueError) as error:
            LOGGER.debug("no pair of a fairness suite: %s", type(error).__name__)
            return
        # They are paid for as fingerprints are.
        self._readiness.evidence.num_tokens += pairs[place].num_tokens
        self._metrics.note_bias(bias.shown())

    async def _chatted(self, chats: Sequence[KnownChat], *, sound: Verdict) -> Verdict | None:
        """`sound`, if the engine makes of every conversation what was published."""
        num_others = 0
        for chat in chats:
            answer = await self._told_chat(chat)
            if answer.status in _BUSY:
                return None
            if answer.status >= _SERVER_ERROR:
                return Verdict(
                    ReadyReason.GENERATION_FAILED,
                    f"the engine answered a chat with status {answer.status}",
                )
            # A template that refuses a conversation is another one, too.
            is_known = answer.status == _OK and is_rendered(chat, json.loads(answer.body))
            num_others += not is_known
        if not num_others:
            return sound
        return Verdict(
            ReadyReason.FINGERPRINT_MISMATCH,
            f"{num_others} of {len(chats)} known conversations become other tokens than when the "
            "version was verified: its chat template or tokenizer is another one",
        )

    async def _told_chat(self, chat: KnownChat) -> Response:
        """The answer to a conversation, or an error that has come again and again.

        How often requests fail is the judge's business, and says nothing of the template.
        """
        body = json.dumps(chat_question(chat, model=self._settings.asked_model)).encode()
        for _ in range(_CHAT_TRIES - 1):
            answer = await self._request(CHAT, method="POST", body=body)
            if answer.status < _SERVER_ERROR or answer.status in _BUSY:
                return answer
        return await self._request(CHAT, method="POST", body=body)

    async def _request(self, path: str, *, method: str, body: bytes = b"") -> Response:
        headers = {"host": "127.0.0.1", "content-type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["authorization"] = f"Bearer {key}"
        headers["content-length"] = str(len(body))
        return await request(
            self._app, path, method=method, body=body, headers=headers, shared=self.shared
        )
