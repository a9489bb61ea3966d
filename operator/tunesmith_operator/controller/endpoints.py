"""The two ports of the operator: its metrics, and whether it is alive and ready."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import generate_latest

from tunesmith_operator.controller.health import Health
from tunesmith_operator.controller.metrics import Measures
from tunesmith_operator.settings import Settings


@asynccontextmanager
async def serving(settings: Settings, measures: Measures, health: Health) -> AsyncIterator[None]:
    """Answer on both ports for as long as the context lasts.

    A replica that waits for the Lease is ready: it does what it should.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(measures.registry), content_type="text/plain")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def healthy(_: web.Request) -> web.Response:
        complaint = health.complaint()
        return web.Response(text=complaint or "ok", status=503 if complaint else 200)

    ports = {
        settings.metrics_port: [web.get("/metrics", metrics)],
        settings.health_port: [web.get("/healthz", healthy), web.get("/readyz", ready)],
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
