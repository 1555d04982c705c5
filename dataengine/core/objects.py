"""Bytes under keys, on this machine or in an object store (S3, GCS, Azure): the one way that sources and stores are read and written.

Keys are relative, use "/", and never leave their root. Options are those of the Rust `object_store` crate, so that one
set of them serves Delta Lake, Zarr and payload alike.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from dataengine.core.errors import AlreadyThere, BadRecording, StoreError, UsageError

REMOTE_SCHEMES = ("s3://", "gs://", "az://", "abfs://", "abfss://")

# Variables of the environment that the object store library knows for each scheme; it refuses others (AWS_CA_BUNDLE, AWS_PROFILE, ...).
_AWS = (
    "access_key_id secret_access_key session_token region default_region endpoint endpoint_url allow_http virtual_hosted_style_request skip_signature "
    "imdsv1_fallback metadata_endpoint container_credentials_relative_uri container_credentials_full_uri container_authorization_token_file "
    "web_identity_token_file role_arn role_session_name endpoint_url_sts request_payer conditional_put"
)
_GOOGLE = "service_account service_account_path service_account_key application_credentials skip_signature"
_AZURE = (
    "storage_account_name storage_account_key storage_client_id storage_client_secret storage_tenant_id storage_sas_key storage_token storage_endpoint "
    "client_id client_secret tenant_id federated_token_file msi_endpoint"
)
_ENVIRONMENT = {
    "s3": frozenset(f"aws_{name}" for name in _AWS.split()),
    "gs": frozenset(f"google_{name}" for name in _GOOGLE.split()),
    **dict.fromkeys(("az", "abfs", "abfss"), frozenset(f"azure_{name}" for name in _AZURE.split())),
}

_USED_BY: dict[str, int] = {}  # the process that uses the object store library: its threads do not live on in a forked one, which would wait for ever


@dataclass(frozen=True)
class ObjectMeta:
    """Key, size in bytes, and a fingerprint: mtime in ns for a local file, etag for a remote object."""

    key: str
    size: int
    fingerprint: str
    modified_ns: int


def safe_key(key: str, where: str) -> str:
    """Return `key` when it stays below its root; raise BadRecording for absolute paths, "..", backslashes and NUL."""
    parts = key.split("/")
    if not key or key.startswith("/") or "\\" in key or "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise BadRecording(
            where, "a path that stays inside the recording's folder", repr(key)[:200], "remove the file or correct the path", check="path_escapes"
        )
    return key


class Objects(Protocol):
    """A root that holds objects under keys."""

    url: str
    options: Mapping[str, str]

    def get(self, key: str) -> bytes:
        """Return an object; raise FileNotFoundError."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`."""

    def head(self, key: str) -> ObjectMeta | None:
        """Return size and fingerprint, None where there is no object."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what was there."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write an object whole; raise AlreadyThere where one exists, also against a writer at the same time."""

    def upload(self, path: Path, key: str) -> None:
        """Move a finished local file to its key."""

    def list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        """Yield the objects below a prefix (a folder), in key order."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is absent already is fine."""

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading: seekable and buffered."""

    def local(self, key: str) -> Path | None:
        """Return the path on this machine, None for a remote object."""


def fsync_path(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LocalObjects:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)
        self.options: Mapping[str, str] = {}

    def local(self, key: str) -> Path | None:
        return self.root / key if key else self.root

    def _path(self, key: str) -> Path:
        return self.root / key if key else self.root

    def get(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with open(self._path(key), "rb") as handle:
            return os.pread(handle.fileno(), length, start)

    def head(self, key: str) -> ObjectMeta | None:
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectMeta(key, found.st_size, str(found.st_mtime_ns), found.st_mtime_ns)

    def _staged(self, key: str, data: bytes) -> tuple[Path, Path]:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
        with open(staged, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        return path, staged

    def put(self, key: str, data: bytes) -> None:
        path, staged = self._staged(key, data)
        os.replace(staged, path)
        fsync_path(path.parent)

    def put_if_absent(self, key: str, data: bytes) -> None:
        path, staged = self._staged(key, data)
        try:
            os.link(staged, path)
        except FileExistsError:
            raise AlreadyThere(f"{path}: exists already") from None
        finally:
            staged.unlink()
        fsync_path(path.parent)

    def upload(self, path: Path, key: str) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.stat(path).st_dev == os.stat(target.parent).st_dev:
            fsync_path(path)  # before it gets its name: whoever sees the name takes the bytes for granted
            os.replace(path, target)
        else:
            staged = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
            shutil.copyfile(path, staged)
            fsync_path(staged)
            os.replace(staged, target)
            path.unlink()
        fsync_path(target.parent)

    def list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        top = self._path(prefix)
        if top.is_file():
            meta = self.head(prefix)
            if meta is not None:
                yield meta
            return
        seen: set[tuple[int, int]] = set()
        for folder, folders, names in os.walk(top, followlinks=True):
            identity = os.stat(folder)
            if (identity.st_dev, identity.st_ino) in seen:
                folders[:] = []
                continue
            seen.add((identity.st_dev, identity.st_ino))
            folders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                meta = self.head(path.relative_to(self.root).as_posix())
                if meta is not None:
                    yield meta

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent == self.root or not parent.is_relative_to(self.root):
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def open(self, key: str) -> BinaryIO:
        return open(self._path(key), "rb", buffering=1 << 20)


class _RemoteFile(io.RawIOBase):
    """A remote object as a seekable raw file: one range read a call."""

    def __init__(self, objects: RemoteObjects, key: str, size: int) -> None:
        self._objects, self._key, self._size, self._at = objects, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        data = self._objects.get_range(self._key, self._at, length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class RemoteObjects:
    """A bucket, or a prefix in it."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        from obstore.store import from_url

        self.url = url.rstrip("/")
        self.options: Mapping[str, str] = dict(options)
        config: Any = {key.lower(): value for key, value in options.items()}
        client: Any = {"allow_http": True} if str(config.pop("allow_http", config.pop("aws_allow_http", "false"))).lower() == "true" else {}
        config.pop("conditional_put", None)
        config.pop("aws_conditional_put", None)
        try:
            self._store = from_url(self.url, config=config, client_options=client)
        except Exception as error:  # the library raises one class for every wrong option
            raise UsageError(f"{url}: cannot be opened as an object store: {error}") from error

    def local(self, key: str) -> Path | None:
        return None

    @contextmanager
    def _told(self, key: str, writing: bool = False) -> Iterator[None]:
        """Say in one sentence what the object store refuses; an object that is absent, or there already, is the caller's business."""
        from obstore.exceptions import AlreadyExistsError, BaseError

        if _USED_BY.setdefault("process", os.getpid()) != os.getpid():
            why = "must be used in a process that was not forked from one that uses it"
            raise UsageError(f"{self.url}: {why}; start workers with 'spawn', as DataLoader(..., multiprocessing_context='spawn') does")
        try:
            yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) and not writing:
                raise
            said = " ".join(str(error).split("\n\nDebug")[0].split())[:500]
            raise StoreError(
                f"{self.url}/{key}: the object store does not answer as it should: {said}; check address, access and network, then run it again"
            ) from error

    def get(self, key: str) -> bytes:
        import obstore

        with self._told(key):
            return bytes(obstore.get(self._store, key).bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        import obstore

        with self._told(key):
            return bytes(obstore.get_range(self._store, key, start=start, length=length)) if length else b""

    def get_range_of(self, meta: ObjectMeta, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` of the very object that `meta` describes; raise StoreError where another one is stored under its key by now."""
        import obstore
        from obstore.exceptions import PreconditionError

        options: Any = {"range": (start, start + length)}
        if meta.fingerprint != str(meta.modified_ns) and not meta.fingerprint.startswith("W/"):  # a store without strong etags cannot tell
            options["if_match"] = meta.fingerprint
        try:
            with self._told(meta.key):
                return bytes(obstore.get(self._store, meta.key, options=options).bytes()) if length else b""
        except StoreError as error:
            if isinstance(error.__cause__, PreconditionError):
                raise StoreError(f"{self.url}/{meta.key}: expected the object that was there at first, found another; open the store again") from error
            raise

    def head(self, key: str) -> ObjectMeta | None:
        import obstore

        try:
            with self._told(key):
                return self._meta(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    @staticmethod
    def _meta(found: Any) -> ObjectMeta:
        modified_ns = int(found["last_modified"].timestamp() * 1_000_000) * 1000
        return ObjectMeta(found["path"], found["size"], found["e_tag"] or str(modified_ns), modified_ns)

    def put(self, key: str, data: bytes) -> None:
        import obstore

        with self._told(key, writing=True):
            obstore.put(self._store, key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._told(key, writing=True):
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            raise AlreadyThere(f"{self.url}/{key}: exists already") from None

    def upload(self, path: Path, key: str) -> None:
        import obstore

        with self._told(key, writing=True):
            obstore.put(self._store, key, path)
        path.unlink()

    def list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        import obstore

        with self._told(prefix):
            found = [self._meta(meta) for batch in obstore.list(self._store, prefix or None) for meta in batch]
        if prefix and not found:
            meta = self.head(prefix)
            found = [meta] if meta is not None else []
        yield from sorted(found, key=lambda meta: meta.key)

    def delete(self, keys: Iterable[str]) -> None:
        import obstore

        for key in keys:
            try:
                with self._told(key):
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def open(self, key: str) -> BinaryIO:
        meta = self.head(key)
        if meta is None:
            raise FileNotFoundError(f"{self.url}/{key}")
        return cast(BinaryIO, io.BufferedReader(_RemoteFile(self, key, meta.size), buffer_size=4 << 20))


def is_remote(url: str) -> bool:
    """Return whether an address names an object store."""
    return url.startswith(REMOTE_SCHEMES)


def open_objects(url: str, options: Mapping[str, str] | None = None) -> Objects:
    """Open a root: a local folder or `s3://bucket/prefix`, `gs://...`, `az://...`.

    Args:
        url: the address; `file://` is taken off.
        options: options of the object store (`aws_endpoint_url`, `aws_region`, ...); the environment's are used too.
    """
    if is_remote(url):
        known = _ENVIRONMENT[url.partition("://")[0]]
        merged = {key.lower(): value for key, value in os.environ.items() if key.lower() in known}
        merged.update(options or {})
        return RemoteObjects(url, merged)
    if "://" in url and not url.startswith("file://"):
        raise UsageError(f"{url}: unknown kind of address; known: a local path, {', '.join(REMOTE_SCHEMES)}")
    return LocalObjects(Path(url.removeprefix("file://")).expanduser())


def storage_options(objects: Objects) -> dict[str, str] | None:
    """Return the options in the form Delta Lake takes, None for a local root."""
    return dict(objects.options) or None
