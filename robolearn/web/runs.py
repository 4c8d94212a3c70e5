"""Runs: curves, evaluations, reward audits, comparison."""

from __future__ import annotations

from fastapi import APIRouter

from robolearn.web.settings import WebSettings


def make_router(settings: WebSettings) -> APIRouter:
    return APIRouter()
