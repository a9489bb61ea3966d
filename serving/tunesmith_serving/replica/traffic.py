"""The requests that pass: counted, and those for text measured, whatever happens to them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from tunesmith_serving.replica.clusters import cluster_of, is_marked
from tunesmith_serving.replica.in_process import Application, Message, Receive, Scope, Send
from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.replica.readiness import Heartbeat
from tunesmith_serving.replica.sample_ring import SampleRing
from tunesmith_serving.replica.stable_answers import MAX_BODY_BYTES, StableAnswers
from tunesmith_serving.tap.metrics import ReplicaMetrics
from tunesmith_serving.tap.tap import Tap
from tunesmith_serving.tap.tapped_request import TappedRequest

LOGGER = logging.getLogger(__name__)
MEASURED: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
_OK: Final = 200
# No key, no right, and a model that is not served.
_OF_NO_MODEL: Final = (401, 403, 404)
_STREAM: Final = b"text/event-stream"


class Traffic:
    """Counters and the ring of samples; `last_arrival` is the clock's time."""

    def __init__(
        self,
        *,
        heartbeat: Heartbeat,
        clock: Callable[[], float],
        model: str,
        metrics: ReplicaMetrics,
        salt: bytes,
        stable: StableAnswers | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.tap = tap
        self.heartbeat = heartbeat
        self._model = model
        self._metrics = metrics
        self.ring = SampleRing()
        self.num_accepted = 0
        self.last_arrival = clock()
        self._clock = clock
        self._salt = salt
        self._stable = stable
        # The loop itself keeps no task alive.
        self._comparing: set[asyncio.Task[None]] = set()

    async def passed(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through to `app`."""
        now = self._clock()
        # Another replica's question takes part in nothing that is counted of clients.
        is_clients = not is_marked(scope["headers"], salt=self._salt)
        if is_clients:
            self.num_accepted += 1
            self.last_arrival = now
        self.heartbeat.begin(now)
        try:
            if is_clients and scope["path"] in MEASURED:
                await self._measured(app, scope, receive, send)
            else:
                await app(scope, receive, send)
        finally:
            self.heartbeat.end()

    async def _measured(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        measurement = Measurement(
            arrived=self._clock(), cluster=cluster_of(scope["headers"], salt=self._salt)
        )
        tapped = TappedRequest() if self.tap is not None else None
        measurement.tapped = tapped
        seq = self.ring.add(measurement)
        view = _View(measurement, heartbeat=self.heartbeat, clock=self._clock)
        view.receive, view.send, view.tapped = receive, send, tapped
        if self._stable is not None and self._stable.is_due():
            view.keep_body(MAX_BODY_BYTES)
        try:
            await app(scope, view.received, view.sent)
        except Exception:
            measurement.fail()
            raise
        finally:
            self._compare(scope, view.body, measurement)
            view.close()
            if not measurement.is_admitted:
                self.ring.forget(seq)
            self._count(measurement)
            if self.tap is not None and tapped is not None:
                self.tap.add(tapped, measurement)

    def _count(self, measurement: Measurement) -> None:
        try:
            fields = measurement.fields(now=self._clock())
            # NB: of streams alone. An objective for first tokens says nothing of whole answers.
            times = fields if measurement.is_streamed else {}
            self._metrics.observe(
                None if measurement.status in _OF_NO_MODEL else self._model,
                outcome=measurement.outcome,
                ttft_seconds=times.get("ttftSeconds"),
                itl_seconds=times.get("itlSeconds"),
                prompt_tokens=measurement.num_prompt_tokens,
                output_tokens=fields.get("outputTokens"),
            )
        except Exception as error:  # noqa: BLE001 - measuring never breaks a request
            LOGGER.debug("a request cannot be counted: %s", type(error).__name__)

    def _compare(self, scope: Scope, body: bytes | None, measurement: Measurement) -> None:
        """Ask stable the same, beside and after the client's own answer."""
        stable = self._stable
        if stable is None or not body or measurement.status != _OK:
            return
        # Its sample waits for the outcome, as for an answer that is under way.
        measurement.is_compared = True

        async def compare() -> None:
            measurement.quality_loss = await stable.loss_of(scope["path"], body, scope["headers"])
            measurement.is_compared = False

        task = asyncio.get_running_loop().create_task(compare())
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)


class _View:
    """What passes between server and application, in both directions, and at once."""

    receive: Receive
    send: Send

    def __init__(
        self, measurement: Measurement, *, heartbeat: Heartbeat, clock: Callable[[], float]
    ) -> None:
        self._measurement = measurement
        self._heartbeat = heartbeat
        self._clock = clock
        self._is_whole = False
        self._is_disconnected = False
        self._kept: bytearray | None = None
        self._room = 0
        self.tapped: TappedRequest | None = None

    @property
    def body(self) -> bytes | None:
        """The request's body, if it was to be kept and was not too long."""
        return bytes(self._kept) if self._kept is not None else None

    def keep_body(self, most: int) -> None:
        """Keep up to `most` bytes of the request for as long as this view lives."""
        self._kept, self._room = bytearray(), most

    async def received(self) -> Message:
        """Pass on what the client sends."""
        message = await self.receive()
        if self.tapped is not None and message["type"] == "http.request":
            self.tapped.read_body(
                message.get("body", b""), is_last=not message.get("more_body", False)
            )
        if self._kept is not None and message["type"] == "http.request":
            self._kept += message.get("body", b"")
            if len(self._kept) > self._room:
                self._kept = None
        # After a whole response the server reports a disconnect, too.
        if message["type"] == "http.disconnect" and not self._is_whole:
            self._is_disconnected = True
        return message

    async def sent(self, message: Message) -> None:
        """Pass on what the application answers, then look at it."""
        now = self._clock()
        await self.send(message)
        try:
            self._look_at(message, now)
        except Exception as error:  # noqa: BLE001 - measuring never breaks a request
            LOGGER.debug("a response cannot be measured: %s", type(error).__name__)
            self._measurement.lose_sight()

    def close(self) -> None:
        """The application has returned or raised."""
        try:
            self._measurement.end(
                now=self._clock(),
                is_whole=self._is_whole,
                is_disconnected=self._is_disconnected,
            )
        except Exception as error:  # noqa: BLE001 - measuring never breaks a request
            LOGGER.debug("a response cannot be measured: %s", type(error).__name__)
            self._measurement.lose_sight()

    def _look_at(self, message: Message, now: float) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", ()))
            is_stream = headers.get(b"content-type", b"").startswith(_STREAM)
            self._measurement.start(message["status"], is_stream=is_stream)
        elif message["type"] == "http.response.body":
            self._is_whole = not message.get("more_body", False)
            body = message.get("body", b"")
            has_token = self._measurement.read(body, now=now)
            # An answer in one piece was made of tokens, an error need not have come to the engine.
            if has_token or (self._is_whole and self._measurement.status == _OK):
                self._heartbeat.beat(now)
