"""An S3-protocol server on this machine, in a process of its own, with three doors to the same buckets.

Through the first it keeps `If-None-Match` as S3 does; the second forgets it, as some object stores do: a conditional put writes always.
The third writes down what is asked of it, and fails as networks do: a key that holds "busy" is refused twice (503) before it is answered, the first answer for
one that holds "cut" ends half-way, and one that holds "forbidden" is refused for good.
Run as a program, it prints the ports of the doors and serves until its stdin closes.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.shared import REPOSITORY

_ASKED = "/-/asked"


@dataclass(frozen=True)
class S3:
    """A running server."""

    port: int
    careless_port: int
    watched_port: int

    def options(self, careless: bool = False, watched: bool = False) -> dict[str, str]:
        """Return the storage options of a client; in capitals they are its environment."""
        port = self.watched_port if watched else self.careless_port if careless else self.port
        return {
            "aws_endpoint_url": f"http://127.0.0.1:{port}",
            "aws_allow_http": "true",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "aws_region": "us-east-1",
        }

    def environment(self, careless: bool = False) -> dict[str, str]:
        """Return the variables of the environment that say the same."""
        return {key.upper(): value for key, value in self.options(careless).items()}

    def asked(self) -> list[str]:
        """Return what was asked at the watched door since the last call: "METHOD /bucket/key range"."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.watched_port}{_ASKED}") as answer:
            return list(json.load(answer))

    def client(self) -> Any:
        """Return a client that is not ours."""
        import boto3

        options = self.options()
        return boto3.client("s3", endpoint_url=options["aws_endpoint_url"], aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")

    def upload(self, folder: Path, bucket: str, prefix: str) -> str:
        """Make a bucket, send a folder into it, and return its address."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
        return f"s3://{bucket}/{prefix}"

    def keys(self, bucket: str) -> list[str]:
        """Return the keys in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def download(self, bucket: str, prefix: str, folder: Path) -> Path:
        """Copy everything below a prefix into a folder."""
        client = self.client()
        for key in self.keys(bucket):
            if key.startswith(f"{prefix}/"):
                path = folder / key.removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, key, str(path))
        return folder


@contextmanager
def serving() -> Iterator[S3]:
    """Run a server for the time of the block."""
    process = subprocess.Popen([sys.executable, "-m", "tests.support.s3_server"], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield S3(*json.loads(process.stdout.readline()))
    finally:
        process.communicate()


def _forgetful(application: Any) -> Callable[[dict[str, Any], Any], Any]:
    def call(environment: dict[str, Any], respond: Any) -> Any:
        for name in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"):
            environment.pop(name, None)
        return application(environment, respond)

    return call


def _watched(application: Any) -> Callable[[dict[str, Any], Any], Any]:
    asked: list[str] = []
    times: Counter[str] = Counter()

    def call(environment: dict[str, Any], respond: Any) -> Any:
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        if path == _ASKED:
            answer = json.dumps(asked).encode()
            asked.clear()
            respond("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
            return [answer]
        asked.append(f"{method} {path} {environment.get('HTTP_RANGE', '')}".strip())
        times[f"{method} {path}"] += 1
        refused = "403 Forbidden" if "forbidden" in path else "503 Slow Down" if "busy" in path and times[f"{method} {path}"] <= 2 else ""
        if refused and method == "GET":
            respond(refused, [("Content-Length", "0")])
            return [b""]
        answer = application(environment, respond)
        if "cut" in path and method == "GET" and times[f"{method} {path}"] == 1:
            whole = b"".join(answer)
            return [whole[: len(whole) // 2]]
        return answer

    return call


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    doors: Mapping[str, Any] = {
        "first": make_server("127.0.0.1", 0, application, threaded=True),
        "careless": make_server("127.0.0.1", 0, _forgetful(application), threaded=True),
        "watched": make_server("127.0.0.1", 0, _watched(application), threaded=True),
    }
    for door in doors.values():
        threading.Thread(target=door.serve_forever, daemon=True).start()
    print(json.dumps([door.server_port for door in doors.values()]), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
