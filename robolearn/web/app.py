"""The web application: one router a page under `/api`, the built front end at `/`, `Guard` before all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles

from robolearn.errors import DatasetBusyError, RobolearnError, UnknownNameError
from robolearn.web import annotate, datasets, live, runs
from robolearn.web.live_source import LiveSource
from robolearn.web.security import SESSION, Guard, cookie_name, same_token, sayable
from robolearn.web.settings import WebSettings
from robolearn.web.stores import Stores

STATIC = Path(__file__).with_name("static")


class Login(BaseModel):
    """What a browser shows once."""

    token: str


def create_app(settings: WebSettings, source: LiveSource | None = None) -> FastAPI:
    """The page. source: where the live page's data come from; None: there is no graph, the other pages work."""
    app = FastAPI(title="robolearn", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, settings=settings)
    app.add_exception_handler(RobolearnError, _explain)
    app.add_exception_handler(OSError, _blame_disk)
    app.add_exception_handler(RequestValidationError, _correct)

    @app.get(SESSION)
    def session(request: Request) -> dict[str, bool]:
        """Whether this browser has shown the token, or needs none."""
        shown = request.cookies.get(cookie_name(settings), "")
        return {"signed_in": settings.token is None or same_token(shown, settings.token)}

    @app.post(SESSION)
    def sign_in(login: Login) -> Response:
        if settings.token is not None and not same_token(login.token, settings.token):
            return JSONResponse({"error": "that is not the token; copy the link that `robolearn web` prints"}, 401)
        response = JSONResponse({"signed_in": True})
        if settings.token is not None:
            response.set_cookie(
                cookie_name(settings),
                settings.token,
                httponly=True,
                samesite="strict",
                secure=settings.certificate is not None,
                max_age=30 * 24 * 3600,
            )
        return response

    app.include_router(live.make_router(settings, source), prefix="/api/live")
    stores = Stores(settings.data_roots)
    app.include_router(datasets.make_router(stores), prefix="/api/datasets")
    app.include_router(annotate.make_router(stores), prefix="/api/annotate")
    app.include_router(runs.make_router(settings), prefix="/api/runs")
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _explain(request: Request, error: Any) -> Response:
    """An error that is raised on purpose is one line for the person."""
    status = {UnknownNameError: 404, DatasetBusyError: 409}.get(type(error), 400)
    return JSONResponse({"error": str(error)}, status)


def _blame_disk(request: Request, error: Any) -> Response:
    """What is full, forbidden, or was taken away while it was read."""
    return JSONResponse({"error": sayable(f"{error.filename or 'a file'}: {error.strerror or error}")}, 500)


def _correct(request: Request, error: Any) -> Response:
    """What of a request is not as wanted, in one line, without what came: it may be long."""
    wrong = (f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": "; ".join(wrong)}, 422)
