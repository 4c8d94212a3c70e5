"""Datasets: list, search, look into episodes, edit."""

from __future__ import annotations

from fastapi import APIRouter

from robolearn.web.settings import WebSettings


def make_router(settings: WebSettings) -> APIRouter:
    return APIRouter()
