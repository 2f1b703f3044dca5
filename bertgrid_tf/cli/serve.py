"""The command that answers requests over HTTP: `serve`."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Annotated

from rich.console import Console

from bertgrid_tf.cli.options import GpuMemory, StudyPath, flag
from bertgrid_tf.errors import UserError

TOKEN = "BERTGRID_TOKEN"


def serve(
    folder: StudyPath,
    # Kubernetes sets BERTGRID_PORT, to a URL, where there is a service named bertgrid.
    host: Annotated[str, flag("--host", "the address to listen on", variable="HTTP_HOST")] = "127.0.0.1",
    port: Annotated[
        int, flag("--port", "the port to listen on; 0 for a free one", variable="HTTP_PORT", min=0, max=65_535)
    ] = 8_000,
    soup: Annotated[bool, flag("--soup", "use the soup of the search's rows instead of the final model")] = False,
    max_texts: Annotated[int, flag("--max-texts", "the most texts of a request", min=1)] = 256,
    max_characters: Annotated[int, flag("--max-characters", "the most characters of a text", min=1)] = 10_000,
    max_body: Annotated[int, flag("--max-body", "the most bytes of a request", min=1)] = 1_000_000,
    max_waiting: Annotated[
        int, flag("--max-waiting", "the most texts that wait; further requests are answered with 503", min=1)
    ] = 1_024,
    batch_wait: Annotated[
        float, flag("--batch-wait", "milliseconds that a request waits for others to share its batch", min=0, max=1e4)
    ] = 2,
    gpu_memory: GpuMemory = None,
) -> None:
    """Answer requests over HTTP with the final model, until it is stopped.

    Where the environment has BERTGRID_TOKEN, requests must carry it as their bearer token.
    """
    from bertgrid_tf import api

    console, memory = Console(), api.memory_limit(gpu_memory)
    api.check_serving()
    study = api.open_study(folder)
    with _opening(host, port):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # With its protocol, without which asyncio leaves Nagle's algorithm on: 40 ms an answer.
        listener = socket.socket(*found[0][:3])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[0][4])
    own, port = listener.getsockname()[:2]
    token, is_local = os.environ.get(TOKEN), ip_address(own).is_loopback
    limits = {"texts": max_texts, "characters": max_characters, "body": max_body, "waiting": max_waiting}
    hosts = {"localhost", host, own} if is_local and token is None else None
    api.prepare_device(console, "Computing", memory)
    app = study.app(soup=soup, token=token, hosts=hosts, **limits, wait_seconds=batch_wait / 1_000)
    from bertgrid_tf.inference.serve import run

    if token is None and not is_local:
        sentence = f"Whoever reaches this port can use the model and read its report: set {TOKEN} to a secret."
        console.print(sentence, style="bold yellow", highlight=False, soft_wrap=True)
    with _opening(host, port):  # Nothing connects before the model is traced.
        listener.listen()
    url = f"http://{f'[{own}]' if ':' in own else own}:{port}"
    console.print(f"{folder} is served on {url}; Ctrl-C ends it.", markup=False, highlight=False, soft_wrap=True)
    run(app, listener)


@contextmanager
def _opening(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that is too long
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Port {port} of {host} cannot be opened ({reason}): give another --port or --host.") from None
