"""A hub on loopback that takes models: the few answers that `huggingface_hub` needs to create one and commit to it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_tests"


@dataclass
class Hub:
    """What the hub holds.

    Attributes:
        address: Its address.
        files: The content of every file by model and name.
        private: Whether a model is private, by model.
        status: Status with which every upload is refused, if any.
        commits: Commits by model.
    """

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    status: int | None = None
    commits: list[str] = field(default_factory=list)


@contextmanager
def hub() -> Iterator[Hub]:
    """Run a hub whose only user is `me`, with the token `TOKEN`."""
    held, large = Hub(), dict[str, bytes]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            model = self.path.removeprefix("/api/models/")
            if model in held.private:
                self.answer(200, {"id": model, "private": held.private[model], "siblings": []})
            else:
                self.answer(404, {}, "RepoNotFound")

        def do_PUT(self) -> None:
            large[self.path.rpartition("/")[2]] = self.body()
            self.answer(200, {})

        def do_POST(self) -> None:
            body, path = self.body(), self.path
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid username or password."})
            elif path == "/api/repos/create":
                asked = json.loads(body)
                model = f"{asked['organization']}/{asked['name']}"
                if asked["organization"] != "me":
                    self.answer(403, {"error": f"You don't have the rights to create a model under {model}"})
                elif model in held.private:
                    self.answer(409, {"error": "You already created this model repo", "url": f"{held.address}/{model}"})
                else:
                    held.private[model], held.files[model] = asked.get("private", False), {}
                    self.answer(200, {"url": f"{held.address}/{model}"})
            elif held.status is not None:
                self.answer(held.status, {"error": "The disk is full"})
            elif path == "/api/validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif path.endswith("/preupload/main"):
                files = [file["path"] for file in json.loads(body)["files"]]
                modes = ["lfs" if name.endswith(".safetensors") else "regular" for name in files]
                pairs = zip(files, modes, strict=True)
                self.answer(200, {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in pairs]})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = [
                    one | {"actions": {"upload": {"href": f"{held.address}/lfs/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": objects})
            else:
                model = path.removeprefix("/api/models/").removesuffix("/commit/main")
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        held.files[model][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "lfsFile":
                        held.files[model][line["value"]["path"]] = large[line["value"]["oid"]]
                held.commits.append(model)
                oid = f"{len(held.commits):040x}"
                self.answer(200, {"commitUrl": f"{held.address}/{model}/commit/{oid}", "commitOid": oid})

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def answer(self, status: int, content: object, error: str = "") -> None:
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
