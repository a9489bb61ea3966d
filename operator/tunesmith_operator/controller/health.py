"""What the operator says over HTTP: metrics, documents, and whether it is alive and ready.

A task that ends takes the whole process with it; what is left to notice are workers that are stuck.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client import generate_latest

from tunesmith_operator.controller.controller import Document
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.work_queue import WorkQueue

# Seconds. A request ends after 30, and one look makes some dozens of them at the most.
STUCK_S: Final = 600.0


@dataclass(slots=True)
class Health:
    """The health of this replica; one that waits for the Lease has no queue, and is well.

    Its `documents` are those of its controllers; one that waits has none.
    """

    queue: WorkQueue | None = None
    documents: dict[str, Document] = field(default_factory=dict)

    def complaint(self) -> str:
        """What is wrong; empty if nothing is."""
        if self.queue is None:
            return ""
        longest = max(self.queue.work_times(), default=0.0)
        if longest > STUCK_S:
            return f"a worker has looked at one object for {longest:.0f} s"
        waited = self.queue.longest_wait()
        if waited > STUCK_S:
            return f"an object has waited for a worker for {waited:.0f} s"
        return ""


@asynccontextmanager
async def serve_http(
    metrics: Metrics, health: Health, *, metrics_port: int, health_port: int
) -> AsyncIterator[None]:
    """Answer on both ports for as long as the context lasts."""

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), content_type="text/plain")

    async def read(request: web.Request) -> web.Response:
        document = health.documents.get(request.match_info["document"])
        place = (request.match_info["namespace"], request.match_info["name"])
        # Long ones take a while to be written.
        text = await asyncio.to_thread(document, *place) if document is not None else None
        if text is None:
            raise web.HTTPNotFound(text="there is none; another replica may lead\n")
        return web.Response(text=text)

    async def ready(_: web.Request) -> web.Response:
        # A replica that waits for the Lease is ready: it does what it should. Were it not, a
        # rolling update would wait for a second leader.
        return web.Response(text="ok")

    async def healthy(_: web.Request) -> web.Response:
        complaint = health.complaint()
        return web.Response(text=complaint or "ok", status=503 if complaint else 200)

    ports = {
        metrics_port: [
            web.get("/metrics", scrape),
            web.get("/{document}/{namespace}/{name}", read),
        ],
        health_port: [web.get("/healthz", healthy), web.get("/readyz", ready)],
    }
    runners = []
    for port, routes in ports.items():
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, port=port).start()
        runners.append(runner)
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()
