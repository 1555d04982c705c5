import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import BadRecording
from dataengine.sources import json_elements
from dataengine.sources.json_elements import places

scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=12)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8)
objects = st.dictionaries(st.text(max_size=6).filter(lambda key: key != "uid"), values, max_size=4)
uids = st.text("abc\u00e4\u4e2d-", min_size=1, max_size=6)


def parts(data: bytes) -> dict[str, Any]:
    return {key: json.loads(data[start : start + size]) for key, (start, size) in places(io.BytesIO(data), "a.json", "uid").items()}


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(uids, objects, max_size=6), st.booleans(), st.sampled_from([None, 1]), st.integers(1, 40))
def test_each_element_is_found_where_it_stands(elements, ascii_only, indent, read_bytes) -> None:
    listed = [{"uid": uid, **element} for uid, element in elements.items()]
    before = json_elements.READ_BYTES
    json_elements.READ_BYTES = read_bytes
    try:
        for content, expected in (
            ({"date": "x", "videos": listed, "after": [1, 2]}, {element["uid"]: element for element in listed}),
            ({"videos": elements}, elements),
            ({key: value for key, value in elements.items() if key != "videos"}, elements),
        ):
            data = json.dumps(content, ensure_ascii=ascii_only, indent=indent).encode()
            found = parts(data)
            # Places are found by letters that stand for single bytes: keys beyond ASCII come out as such.
            assert {key: value for key, value in found.items() if key.isascii()} == {key: value for key, value in expected.items() if key.isascii()}
    finally:
        json_elements.READ_BYTES = before


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a": 1', b'{"videos": [{"uid": "a"}, {"uid"', b"nonsense", b'{"a" 1}', b"[1, 2", b'{"a": {"b": }}', b"[" * 100_000]
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadRecording) as caught:
        places(io.BytesIO(data), "a.json", "uid")
    assert caught.value.check == "unreadable_json"


def test_an_element_beyond_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_elements, "MAX_ELEMENT_BYTES", 1000)
    monkeypatch.setattr(json_elements, "READ_BYTES", 100)
    with pytest.raises(BadRecording):
        places(io.BytesIO(b'{"videos": {"a": {"b": "' + b"x" * 5000 + b'"}}}'), "a.json", "uid")
