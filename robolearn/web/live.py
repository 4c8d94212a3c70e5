"""The live page: what a graph does now, the stop button, driving."""

from __future__ import annotations

from fastapi import APIRouter

from robolearn.web.live_source import LiveSource
from robolearn.web.settings import WebSettings


def make_router(settings: WebSettings, source: LiveSource | None) -> APIRouter:
    router = APIRouter()

    @router.get("/graph")
    def graph() -> dict[str, bool]:
        """Whether there is a graph behind the page."""
        return {"graph": source is not None}

    return router
