"""Health: `/healthz` for those who look after servers, and `/metrics` for Prometheus."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from sdcli.serve.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """The routes of this file."""

    async def healthz(http: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(http: Request) -> Response:
        return PlainTextResponse(_metrics(service), media_type="text/plain; version=0.0.4")

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


def _metrics(service: Service) -> str:
    """The numbers of this process in Prometheus' text format."""
    queue = service.queue
    rows: list[tuple[str, str, str, dict[str, float]]] = [
        ("sd_pictures_total", "counter", "Pictures, by how they ended.", {
            f'{{state="{state}"}}': count for state, count in queue.counts.items()
        }),
        ("sd_refused_total", "counter", "Requests refused because the queue was full.", {"": queue.refused}),
        ("sd_queue_length", "gauge", "Pictures that wait for a worker.", {"": queue.waiting}),
        ("sd_queue_places", "gauge", "Pictures that may wait.", {"": queue.places}),
        ("sd_running", "gauge", "Pictures that are being drawn.", {"": len(queue.running)}),
        ("sd_drawing_seconds_total", "counter", "Seconds spent on pictures that were finished.", {"": queue.seconds}),
        ("sd_steps_total", "counter", "Steps that were taken.", {"": queue.steps}),
    ]  # fmt: skip
    lines: list[str] = []
    for name, kind, help, values in rows:
        lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value:.10g}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"
