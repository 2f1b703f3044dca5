"""A model hub on loopback: the few answers that `huggingface_hub` needs to download a snapshot."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def hub(models: dict[str, Path], listed: Sequence[object] = ()) -> Iterator[tuple[str, list[str]]]:
    """Serve folders as models; yield the address and the list of the paths that are asked for.

    Args:
        models: Folders by hub ids, with or without `@` and a revision.
        listed: What stands among the names of each model's files besides.
    """
    commits = {name: hashlib.sha1(name.encode()).hexdigest() for name in models}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            error = "RepoNotFound"
            for key, folder in models.items():
                name, _, revision = key.partition("@")
                if path in (f"/api/models/{name}/revision/{revision or 'main'}", f"/api/models/{key}"):
                    files = [
                        {"rfilename": getattr(file, "name", file)} for file in [*sorted(folder.iterdir()), *listed]
                    ]
                    self.answer(json.dumps({"id": name, "sha": commits[key], "siblings": files}).encode(), key)
                    return
                if path.startswith(f"/api/models/{name}/revision/"):
                    error = "RevisionNotFound"
                prefix = f"/{name}/resolve/{commits[key]}/"
                if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                    self.answer((folder / path.removeprefix(prefix)).read_bytes(), key)
                    return
            self.send_response(401 if error == "RepoNotFound" else 404)
            self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, content: bytes, key: str) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commits[key])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
