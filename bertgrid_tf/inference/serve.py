"""The final model over HTTP: a FastAPI app, and a server that answers what it has accepted before it ends."""

import asyncio
import hmac
import json
import signal
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from markdown_it import MarkdownIt
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders

from bertgrid_tf import __version__
from bertgrid_tf.corpus import Dialogue, Utterance, utterances
from bertgrid_tf.corpus.text import HALF_PAIR
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.batching import Batcher, BusyError
from bertgrid_tf.storage.study_folder import StudyFolder

HEALTH = "/healthz"
GRACE_SECONDS = 60
"""Seconds after a signal to stop after which a client that still does not read or write is given up."""
HEADERS = {
    "Cache-Control": "no-store",
    # No script at all, and nothing of another host.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>%s</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 0 auto; padding: 2rem 1.25rem; font: 1rem/1.6 system-ui, sans-serif; }
h1, p, li, code { overflow-wrap: anywhere; }
pre, table { display: block; overflow-x: auto; }
th, td { padding: .25rem 1rem .25rem 0; text-align: left; }
</style>
</head>
<body>
%s</body>
</html>
"""


@dataclass(frozen=True)
class Limits:
    """The most that a server takes.

    Attributes:
        texts: Texts of a request.
        characters: Characters of a text, its speaker's name or the second text of a pair included.
        body: Bytes of a request.
        waiting: Texts that wait for the model.
        wait_seconds: Seconds that a request waits for others to share its batch.
    """

    texts: int = 256
    characters: int = 10_000
    body: int = 1_000_000
    waiting: int = 1_024
    wait_seconds: float = 0.002


class ServedUtterance(BaseModel, extra="forbid"):
    """An utterance of a dialogue."""

    text: str
    speaker: str | None = Field(None, description="used where the study has speakers")


class ServedPair(BaseModel, extra="forbid"):
    """A pair of texts."""

    text: str
    text_pair: str


class PredictRequest(BaseModel):
    """Texts, pairs of texts, or whole dialogues, whose utterances are each other's context."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"texts": ["Oh my God!", "It was fine."]},
                {"pairs": [{"text": "Where is he?", "text_pair": "At the museum."}]},
                {"dialogues": [[{"speaker": "Ross", "text": "Hi."}, {"speaker": "Rachel", "text": "Again?"}]]},
            ]
        },
    )
    texts: list[str] | None = Field(None, description="texts without context")
    pairs: list[ServedPair] | None = Field(None, description="pairs, in place of texts, where the study has pairs")
    dialogues: list[list[ServedUtterance]] | None = Field(None, description="dialogues, in place of texts")


class Prediction(BaseModel):
    """The label of a text, with the probability of every class."""

    label: str
    probabilities: dict[str, float]


class PredictResponse(BaseModel):
    """A prediction for every text; for dialogues, a list of them for each."""

    predictions: list[Prediction] | list[list[Prediction]]
    warnings: list[str] = Field(description="sentences about texts whose labels are guesses")


class Refusal(BaseModel):
    """A request that was refused."""

    detail: str = Field(description="one sentence")


REFUSALS = {401: "no token", 413: "too many bytes", 422: "nothing to classify", 503: "too many texts wait"}


def create_app(
    folder: StudyFolder,
    soup: bool = False,
    token: str | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """Load and trace the model of a study, and make an app of it, which can be mounted in another one.

    Args:
        folder: The study.
        soup: Whether to serve the soup instead of the final model.
        token: The bearer token of all requests but those of the health; None for none.
        limits: The most that is taken; None for the defaults.
        hosts: The names by which the app may be called; None for any.

    Raises:
        UserError: The study has no such model, or the token is none that a header can carry.
    """
    if token is not None and not (token and all("!" <= character <= "~" for character in token)):
        raise UserError("The token must be one or more visible ASCII characters, as `openssl rand -hex 16` prints.")
    limits, name = limits or Limits(), folder.path.absolute().name
    batcher = Batcher(folder, soup, limits.wait_seconds, limits.waiting)
    # FastAPI's own pages of the API load scripts of another host.
    app = FastAPI(title=f"{name}, a model of bertgrid-tf", version=__version__, docs_url=None, redoc_url=None)
    app.state.batcher = batcher
    app.add_middleware(_Gate, token=token, body=limits.body, hosts=hosts)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _sentence(error.errors()[0])}, 422)

    @app.post(
        "/predict",
        response_model=PredictResponse,
        responses={code: {"model": Refusal, "description": text} for code, text in REFUSALS.items()},
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token else [],  # for the API's description alone
    )
    async def predict(body: PredictRequest) -> JSONResponse:
        """Label texts, or the utterances of dialogues, as `bertgrid-tf predict --proba` does."""
        try:
            dialogues = _dialogues(body, limits)
            answer = await asyncio.wrap_future(batcher.submit(dialogues))
        except BusyError:
            sentence = "Too many texts wait for the model: send the request again later."
            raise HTTPException(503, sentence, {"Retry-After": "1"}) from None
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        predictions: list[Any] = [
            {"label": batcher.labels[best], "probabilities": dict(zip(batcher.labels, row, strict=True))}
            for best, row in zip(answer.probabilities.argmax(axis=1), answer.probabilities.tolist(), strict=True)
        ]
        if body.dialogues is not None:
            rest = iter(predictions)
            predictions = [[next(rest) for _ in dialogue.utterances] for dialogue in dialogues]
        return JSONResponse({"predictions": predictions, "warnings": answer.remarks})

    @app.get(HEALTH)
    async def health() -> dict[str, str]:
        """Say that the model answers."""
        return {"status": "ok"}

    @app.get("/", response_class=HTMLResponse)
    def card() -> str:
        """Show the model card."""
        file = folder.model / "README.md"
        text = file.read_text(encoding="utf-8") if file.exists() else f"# {name}\n"
        if text.startswith("---\n"):  # the metadata of Hugging Face
            text = text.partition("\n---\n")[2]
        note = "The soup of the search's rows answers here; the card is the final model's." if soup else ""
        return _page(name, f"[The study's report](report) · [API](docs)\n\n{note}\n\n{text}")

    @app.get("/report", response_class=HTMLResponse)
    def report() -> FileResponse:
        """Show the study's report."""
        if not folder.report_file.exists():
            raise HTTPException(404, "The study has no report.html: `bertgrid-tf report DIR` draws it.")
        return FileResponse(folder.report_file, media_type="text/html")

    @app.get("/docs", response_class=HTMLResponse)
    def docs() -> str:
        """Show the paths and the schemas of `openapi.json`."""
        api = app.openapi()
        paths = [
            f"* `{method.upper()} {path}`: {operation['description']}"
            for path, methods in api["paths"].items()
            for method, operation in methods.items()
        ]
        schemas = json.dumps(api["components"], indent=2, ensure_ascii=False)
        return _page(app.title, "\n".join([f"# {app.title}\n", *paths, f"\n```json\n{schemas}\n```\n"]))

    return app


def _page(title: str, markdown: str) -> str:
    """Make a page of Markdown, in which HTML is text."""
    return PAGE % (escape(title), MarkdownIt("js-default").render(markdown))


def _dialogues(body: PredictRequest, limits: Limits) -> Sequence[Dialogue]:
    """Check a request and return its dialogues, a text being a dialogue of its own."""
    if [body.texts, body.pairs, body.dialogues].count(None) != 2:
        raise UserError("Give texts, pairs or dialogues, one of the three.")
    dialogues = [Dialogue((Utterance(text),)) for text in body.texts or ()]
    dialogues += [Dialogue((Utterance(pair.text, text_pair=pair.text_pair),)) for pair in body.pairs or ()]
    for dialogue in body.dialogues or ():
        dialogues.append(Dialogue(tuple(Utterance(line.text, speaker=line.speaker) for line in dialogue)))
    texts, most = list(utterances(dialogues)), min(limits.texts, limits.waiting)
    if not texts:
        raise UserError("There are no texts to classify: give at least one.")
    if len(texts) > most:
        raise UserError(f"The request has {len(texts):,} texts: send at most {most:,} at a time.")
    for number, line in enumerate(texts, start=1):
        characters = "".join((line.speaker or "", *line.texts))
        if HALF_PAIR.search(characters):
            raise UserError(f"Text {number} has half of a surrogate pair: send whole characters.")
        if (length := len(characters)) > limits.characters:
            raise UserError(f"Text {number} has {length:,} characters: send at most {limits.characters:,}.")
    return dialogues


def _sentence(error: Any) -> str:
    """Say what is wrong with a body, by pydantic's first error."""
    place = error["loc"][1:]
    if error["type"] == "json_invalid":
        return f"The body is no JSON: {error['ctx']['error']} at character {place[0]}."
    if not place:
        return "The body must be a JSON object, with the header Content-Type: application/json."
    return f"{'.'.join(map(str, place))}: {error['msg']}."


class _Gate:
    """Refuses requests before their bodies are read, and sets the headers of all answers."""

    def __init__(self, app: Any, token: str | None, body: int, hosts: Collection[str] | None) -> None:
        self._app, self._body, self._hosts = app, body, hosts
        self._authorization = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        received = 0

        async def receive_limited() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._body:
                raise self._too_large()
            return message

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif refusal := self._refusal(Headers(scope=scope), scope["path"].removeprefix(scope.get("root_path", ""))):
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            await answer(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive_limited, send_with_headers)

    def _refusal(self, headers: Headers, path: str) -> HTTPException | None:
        host = headers.get("host", "").rpartition(":")
        if self._hosts is not None and (host[0] or host[2]).strip("[]") not in self._hosts:
            # A web page whose name was made to stand for this address could read the answers.
            return HTTPException(421, f"This server is called {' or '.join(sorted(self._hosts))} alone.")
        given = headers.get("authorization", "").encode("latin-1")
        if self._authorization and path != HEALTH and not hmac.compare_digest(given, self._authorization):
            sentence = "The token is missing or wrong: send the header Authorization: Bearer TOKEN."
            return HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"})
        return self._too_large() if int(headers.get("content-length", 0)) > self._body else None

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The request has too many bytes: send at most {self._body:,}.")


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve an app until SIGINT or SIGTERM comes, and answer the requests that have been accepted until then.

    Args:
        app: The app.
        listener: The listening socket, which is closed.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", server_header=False, ws="none", timeout_graceful_shutdown=GRACE_SECONDS
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # At its end, uvicorn raises the signal again for the handler before its own: this one, not the command's.
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.run(sockets=[listener])
