"""Hosts that break off, lie, stall or never end: corpora and hub models are fetched whole or refused in a sentence."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

from bertgrid_tf.corpus import SOURCES, Source, SourceFile, fetch
from bertgrid_tf.errors import UserError
from tests.campaign.case import LIMIT, Case, CaseError
from tests.campaign.process import Process

CONTENT = ("id\tdocument\tlabel\n" + "".join(f"{n}\treview {n}\t{n % 2}\n" for n in range(3000))).encode()
HTML = b"<!doctype html><html><body>Please sign in</body></html>"
TIMEOUT = 1.0
"""Seconds that a host may be silent."""


class Host(BaseHTTPRequestHandler):
    """One server, many hosts: the first part of the path names what the host does."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        _, kind, *path = unquote(self.path.split("?")[0]).split("/")
        with suppress(OSError):
            if kind in HUBS:
                HUBS[kind](self, "/".join(path))
            else:
                KINDS[kind](self)

    def answer(self, body: bytes, status: int = 200, **headers: object) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def forever(self, chunk: bytes, pause: float = 0.0, **headers: object) -> None:
        """Send a body that does not end."""
        self.answer(b"", Content_Length=None, **headers)
        while self.command == "GET":
            self.wfile.write(chunk)
            self.wfile.flush()
            time.sleep(pause)

    def reset(self) -> None:
        """Cut the connection in the middle of the body."""
        self.answer(CONTENT[:99], Content_Length=len(CONTENT))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


KINDS: dict[str, Callable[[Host], object]] = {
    "good": lambda host: host.answer(CONTENT),
    "compressed": lambda host: host.answer(gzip.compress(CONTENT), Content_Encoding="gzip"),
    "moved": lambda host: host.answer(b"", 302, Location="/good/reviews.txt"),
    "broken off": lambda host: host.answer(CONTENT[:5000], Content_Length=len(CONTENT)),
    "too short": lambda host: host.answer(CONTENT[:5000]),
    "another content": lambda host: host.answer(b"x" * len(CONTENT)),
    "empty": lambda host: host.answer(b""),
    "web page": lambda host: host.answer(HTML, Content_Type="text/html"),
    "absent": lambda host: host.answer(b"no", 404),
    "busy": lambda host: host.answer(b"later", 503, Retry_After=99999),
    "moved in a circle": lambda host: host.answer(b"", 302, Location=host.path),
    "moved to a file": lambda host: host.answer(b"", 302, Location="file:///etc/passwd"),
    "silent": lambda host: time.sleep(60),
    "dripping": lambda host: host.forever(b"x", pause=0.5),
    "endless": lambda host: host.forever(b"x" * (1 << 16)),
    "bomb": lambda host: host.answer(gzip.compress(bytes(1 << 30), 1), Content_Encoding="gzip"),
    "no gzip": lambda host: host.answer(CONTENT, Content_Encoding="gzip"),
    "huge by its header": lambda host: host.answer(CONTENT, Content_Length=2**62),
    "negative by its header": lambda host: host.answer(CONTENT, Content_Length=-5),
    "cut": Host.reset,
    "no HTTP": lambda host: host.wfile.write(b"220 ready\r\n" * 9),
    "broken chunks": lambda host: host.answer(b"zz\r\nabc", Content_Length=None, Transfer_Encoding="chunked"),
    "endless headers": lambda host: [host.wfile.write(b"HTTP/1.1 200 OK\r\n"), host.wfile.write(b"a: b\r\n" * 10**6)],
}
WHOLE = ("good", "compressed", "moved", "negative by its header")


def _hub(spoil: Callable[[Host, str], bool]) -> Callable[[Host, str], None]:
    """Make a hub that serves the shared BERT as someone/tiny, but for what `spoil` answers itself."""

    def serve(host: Host, path: str) -> None:
        folder, commit = Path(os.environ["CAMPAIGN_HUB"]), "0" * 40
        name = path.rpartition("/")[2]
        if spoil(host, path):
            return
        if path.startswith("api/models/"):
            files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
            host.answer(json.dumps({"id": "someone/tiny", "sha": commit, "siblings": files}).encode())
        elif (folder / name).is_file():
            content = (folder / name).read_bytes()
            host.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit)
        else:
            host.answer(b"", 404, X_Error_Code="EntryNotFound")

    return serve


def _siblings(*names: str) -> Callable[[Host, str], bool]:
    def spoil(host: Host, path: str) -> bool:
        if path.startswith("api/models/"):
            files = [{"rfilename": name} for name in ("config.json", "vocab.txt", "model.safetensors", *names)]
            host.answer(json.dumps({"id": "someone/tiny", "sha": "0" * 40, "siblings": files}).encode())
            return True
        if "escaped" in path:
            host.answer(b"escaped", ETag='"1"', X_Repo_Commit="0" * 40)
            return True
        return False

    return spoil


def _weights(answer: Callable[[Host], object]) -> Callable[[Host, str], bool]:
    def spoil(host: Host, path: str) -> bool:
        mine = path.endswith("config.json") and "resolve" in path
        if mine:
            answer(host)
        return mine

    return spoil


def _always(answer: Callable[[Host], object]) -> Callable[[Host, str], bool]:
    return lambda host, path: answer(host) is None or True


HUBS: dict[str, Callable[[Host, str], None]] = {
    "hub whole": _hub(lambda host, path: False),
    "hub out of its folder": _hub(_siblings("../../../escaped.json", "/tmp/escaped.json")),
    "hub of web pages": _hub(_always(lambda host: host.answer(HTML, Content_Type="text/html"))),
    "hub in a circle": _hub(_always(lambda host: host.answer(b"", 302, Location=host.path))),
    "hub broken off": _hub(_weights(lambda host: host.answer(b'{"model', Content_Length=900, ETag='"1"'))),
    "hub of nonsense": _hub(_weights(lambda host: host.answer(b"\xff\0{", ETag='"1"', X_Repo_Commit="0" * 40))),
    "hub without names": _hub(_always(lambda host: host.answer(b'{"siblings": [3], "sha": null}'))),
}
PLANS = (*((kind,) for kind in KINDS), *((kind, "good") for kind in KINDS if kind not in WHOLE), *((k,) for k in HUBS))
CASES = len(PLANS)
SHARED: tuple[str, ...] = ("study",)


@contextmanager
def _hosts(hub: Path) -> Iterator[str]:
    """Serve in a process of its own, since commands are forks of this one; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    if (child := os.fork()) == 0:
        os.environ["CAMPAIGN_HUB"] = str(hub)
        with Path(os.devnull).open("w") as sys.stderr:
            server.serve_forever()
    server.socket.close()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def run(case: Case) -> None:
    """Fetch from hosts that misbehave, and from a good one after them; or load a model from such a hub."""
    plan = PLANS[case.number]
    with _hosts(case.finished / "model") as address:
        try:
            if plan[0] in HUBS:
                _load_model(case, f"{address}/{quote(plan[0])}", whole=plan[0] == "hub whole")
            else:
                _fetch(case, [f"{address}/{quote(kind)}" for kind in plan], {*plan} & {*WHOLE})
        except CaseError as failure:
            raise CaseError(failure.kind, f"{failure}\n{plan}") from failure


def _fetch(case: Case, hosts: list[str], whole: set[str]) -> None:
    file = SourceFile("reviews.txt", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "train")
    source = Source("reviews", "reviews", "CC0", "https://example.org", tuple(hosts), (file,), SOURCES["nsmc"].read)
    folder = case.folder / "reviews"

    def action() -> None:
        try:
            fetch(source, folder, timeout=TIMEOUT)
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(2)

    answer = case.fork(action).check((0,) if whole else (2,))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    if kept != ({"reviews.txt": CONTENT} if whole else {}):
        raise CaseError("difference", f"{[*kept]} lie in the folder: {answer}")


def _load_model(case: Case, address: str, whole: bool) -> None:
    variables = {"HF_ENDPOINT": address, "HF_HOME": str(case.folder / "cache"), "HF_HUB_OFFLINE": "0"}
    answer = Process(case, "data", "describe", "sample", "--model", "someone/tiny", **variables).wait(2 * LIMIT)
    if answer is None:
        raise CaseError("hang", "the hub")
    # The hub's library draws its own bars.
    replace(answer, err="".join(answer.err.splitlines(keepends=True)[-1:])).check((0,) if whole else (0, 2))
    for place in (case.folder, Path("/tmp")):
        if escaped := [*place.glob("escaped*")]:
            raise CaseError("other", f"written outside the cache: {escaped}")
    shutil.rmtree(case.folder / "cache", ignore_errors=True)
