"""A loopback server that answers as the Hugging Face hub does, for the calls that a download makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# What the hub sends where access is refused: status, X-Error-Code, X-Error-Message.
REFUSALS = {
    "tests/missing": (401, "RepoNotFound", "Repository not found"),
    "tests/gated": (403, "GatedRepo", "Access to model tests/gated is restricted"),
    "tests/token": (401, "", "Invalid credentials in Authorization header"),
    "tests/forbidden": (403, "", "Forbidden"),
}


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        if not is_api and "resolve" not in parts:
            return self._refuse(404, "", "Not found")
        owner, name, *rest = parts[2:] if is_api else parts
        repository = f"{owner}/{name}"
        self.server.requests.append(self.path)
        if repository in REFUSALS and not (is_api and repository == "tests/gated"):  # anyone may see what there is
            return self._refuse(*REFUSALS[repository])
        folder = self.server.repositories.get(repository)
        if folder is None:
            return self._refuse(*REFUSALS["tests/missing"])
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if is_api and rest[:1] == ["tree"]:
            return self._send(json.dumps([_entry(folder, path) for path in _paths(folder)]).encode(), with_body)
        if is_api:
            siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in _paths(folder)]
            info = {"id": repository, "sha": COMMIT, "siblings": siblings}
            return self._send(json.dumps(info).encode(), with_body)
        path = folder.joinpath(*rest[2:])
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        return self._send(path.read_bytes(), with_body, etag=_etag(path), large=path.suffix == ".safetensors")

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body: bytes, with_body: bool, etag: str | None = None, large: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if etag is not None:
            self.send_header("X-Linked-Etag" if large else "ETag", f'"{etag}"')
        self.end_headers()
        if with_body:
            self.wfile.write(body)


class Hub(ThreadingHTTPServer):
    """Serves `repositories` (id → folder); ids in REFUSALS are refused; `requests` keeps the paths asked for."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _etag(path: Path) -> str:
    # The hub names large files by their SHA-256, others by their Git blob id.
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(folder: Path, path: Path) -> dict[str, object]:
    size = path.stat().st_size
    entry: dict[str, object] = {
        "type": "file",
        "path": path.relative_to(folder).as_posix(),
        "size": size,
        "oid": "0" * 40,
    }
    if path.suffix == ".safetensors":
        entry["lfs"] = {"oid": _etag(path), "size": size, "pointerSize": 134}
    return entry


@contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[Hub]:
    with Hub(repositories) as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
