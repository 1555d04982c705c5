"""Objects of an object store: what a network does to a request, and an object that was rewritten since it was looked at."""

from __future__ import annotations

import random
import uuid

import pytest

from dataengine.core.errors import StoreError
from dataengine.core.objects import RemoteObjects, open_objects
from tests.support.s3_server import S3

pytestmark = pytest.mark.s3

DATA = random.Random(0).randbytes(100_000)


@pytest.fixture
def objects(s3: S3) -> RemoteObjects:
    objects = open_objects(f"s3://lab/{uuid.uuid4().hex}", s3.options(watched=True))
    assert isinstance(objects, RemoteObjects)
    return objects


def gets(s3: S3) -> list[str]:
    return [asked.rpartition(" ")[2] for asked in s3.asked() if asked.startswith("GET")]


def test_a_request_that_is_refused_for_now_is_made_again(s3: S3, objects: RemoteObjects) -> None:
    objects.put("busy", DATA)
    s3.asked()
    assert objects.get_range("busy", 10, 90) == DATA[10:100]
    assert gets(s3) == ["bytes=10-99"] * 3


def test_an_answer_that_is_cut_off_is_continued(s3: S3, objects: RemoteObjects) -> None:
    objects.put("cut", DATA)
    s3.asked()
    assert objects.get_range("cut", 1000, 90_000) == DATA[1000:91_000]
    assert gets(s3) == ["bytes=1000-90999", "bytes=46000-90999"]


def test_what_is_refused_for_good_names_the_object_and_is_asked_once(s3: S3, objects: RemoteObjects) -> None:
    objects.put("forbidden", DATA)
    s3.asked()
    with pytest.raises(StoreError, match=rf"{objects.url}/forbidden: the object store does not answer as it should: .*403 Forbidden"):
        objects.get_range("forbidden", 0, 1)
    assert gets(s3) == ["bytes=0-0"]


def test_an_object_that_was_rewritten_is_not_mistaken_for_the_one_before(objects: RemoteObjects) -> None:
    objects.put("a", DATA)
    meta = objects.head("a")
    assert meta is not None
    assert objects.get_range_of(meta, 7, 5) == DATA[7:12]
    assert objects.get_range_of(meta, 99_990, 10) == DATA[99_990:]
    assert objects.get_range_of(meta, 7, 0) == b""
    objects.put("a", DATA[::-1])
    assert objects.get_range("a", 0, 2) == DATA[:-3:-1]
    with pytest.raises(StoreError, match=f"{objects.url}/a: expected the object that was there at first, found another; open the store again"):
        objects.get_range_of(meta, 7, 5)
    objects.delete(["a"])
    with pytest.raises(FileNotFoundError):
        objects.get_range_of(meta, 7, 5)
