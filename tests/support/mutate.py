"""Break bytes on purpose, the same way every time: what a failing disk, a cut-off copy or an attacker does to a file.

    for name, broken in mutants(data, count=200, seed=7):
        ...

`name` says what was done and where ("0013-int@412:u64le=2^63"), so that one failing mutant can be made again with
`mutant(data, seed, 13)`. Mutant i depends on (data, seed, i) only. The kinds come in turn, so that any 20 mutants in a row
hold every kind; places are drawn mostly from the first 2 KiB and from the tail (headers, indexes and footers lie there), the rest from anywhere,
and from `hot` where the caller knows which byte ranges matter. No mutant equals its original unless the data is shorter than two bytes.
Run them with `tests.support.child.run_over`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence

Range = tuple[int, int]

HEADER_BYTES = 2048
TAIL_BYTES = 1024

# Values that break size arithmetic: nothing, all ones, the signed and unsigned limits and their neighbours, and merely absurd.
_INTEGERS = {
    "0": 0,
    "1": 1,
    "-1": -1,
    "2^31-1": 2**31 - 1,
    "2^31": 2**31,
    "2^32-1": 2**32 - 1,
    "2^40": 2**40,
    "2^62": 2**62,
    "2^63-1": 2**63 - 1,
    "2^63": 2**63,
}


def _place(data: bytes, rng: random.Random, hot: Sequence[Range]) -> int:
    """Draw a byte position: hot ranges and headers far more often than the payload."""
    size = len(data)
    draw = rng.random()
    if hot and draw < 0.4:
        start, end = rng.choice(hot)
        return min(rng.randrange(start, max(end, start + 1)), size - 1)
    if draw < 0.7:
        return rng.randrange(min(HEADER_BYTES, size))
    if draw < 0.8:
        return size - 1 - rng.randrange(min(TAIL_BYTES, size))
    return rng.randrange(size)


def _length(rng: random.Random, most: int) -> int:
    """Draw a length in [1, most], short ones as likely as long ones."""
    return max(1, min(most, int(2 ** rng.uniform(0, max(1, most).bit_length()))))


def _truncate(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    end = len(data) - _length(rng, len(data)) if rng.random() < 0.5 else rng.randrange(len(data))
    return f"truncate@{end}", data[:end]


def _extend(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    count = _length(rng, 4096)
    return f"extend+{count}", data + (bytes(count) if rng.random() < 0.5 else rng.randbytes(count))


def _bit_flip(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    broken = bytearray(data)
    at, bit = _place(data, rng, hot), rng.randrange(8)
    broken[at] ^= 1 << bit
    return f"flip@{at}.{bit}", bytes(broken)


def _bit_flips(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    broken = bytearray(data)
    places = [_place(data, rng, hot) for _ in range(rng.randint(2, 16))]
    for at in places:
        broken[at] ^= rng.randint(1, 255)
    return f"scatter@{places[0]}x{len(places)}", bytes(broken)


def _zero(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    at = _place(data, rng, hot)
    count = min(_length(rng, 4096), len(data) - at)
    return f"zero@{at}+{count}", data[:at] + bytes(count) + data[at + count :]


def _random_bytes(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    at = _place(data, rng, hot)
    count = min(_length(rng, 256), len(data) - at)
    return f"noise@{at}+{count}", data[:at] + rng.randbytes(count) + data[at + count :]


def _splice(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    at = _place(data, rng, hot)
    count = _length(rng, 64)
    return f"insert@{at}+{count}", data[:at] + rng.randbytes(count) + data[at:]


def _remove(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    at = _place(data, rng, hot)
    count = min(_length(rng, 1024), len(data) - at)
    return f"remove@{at}+{count}", data[:at] + data[at + count :]


def _swap(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    a, b = sorted((_place(data, rng, hot), _place(data, rng, ())))
    count = min(_length(rng, 1024), b - a, len(data) - b)
    if count <= 0:
        return _bit_flip(data, rng, hot)
    return f"swap@{a},{b}+{count}", data[:a] + data[b : b + count] + data[a + count : b] + data[a : a + count] + data[b + count :]


def _duplicate(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    a, b = _place(data, rng, hot), _place(data, rng, hot)
    block = data[a : a + _length(rng, 1024)]
    if rng.random() < 0.5:
        return f"copy-in@{a}>{b}+{len(block)}", data[:b] + block + data[b:]
    return f"copy-over@{a}>{b}+{len(block)}", (data[:b] + block + data[b + len(block) :])[: max(len(data), 1)]


def _integer(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    width = rng.choice([1, 2, 4, 4, 8, 8])
    if len(data) < width:
        return _bit_flip(data, rng, hot)
    order = rng.choice(["little", "big"])
    at = min(_place(data, rng, hot), len(data) - width)
    if rng.random() < 0.5:
        at -= at % width
    name = rng.choice(list(_INTEGERS))
    field = (_INTEGERS[name] & (2 ** (8 * width) - 1)).to_bytes(width, "little" if order == "little" else "big")
    return f"int@{at}:u{8 * width}{order[0]}e={name}", data[:at] + field + data[at + width :]


def _grow_integer(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    """Multiply a small number that stands in the file by something absurd: most sizes and counts look like that."""
    width = rng.choice([4, 8])
    layout = rng.choice("<>") + {4: "I", 8: "Q"}[width]
    for _ in range(200):
        at = _place(data, rng, hot)
        if at + width > len(data):
            continue
        (value,) = struct.unpack_from(layout, data, at)
        if 0 < value < 2**24:
            factor = rng.choice([2, 3, 255, 2**12, 2**20, 2**36])
            grown = (value * factor) % 2 ** (8 * width)
            return f"grow@{at}:{layout}{value}x{factor}", data[:at] + struct.pack(layout, grown) + data[at + width :]
    return _integer(data, rng, hot)


def _float(data: bytes, rng: random.Random, hot: Sequence[Range]) -> tuple[str, bytes]:
    if len(data) < 8:
        return _bit_flip(data, rng, hot)
    at = min(_place(data, rng, ()), len(data) - 8) & ~7
    value = rng.choice([float("nan"), float("inf"), -1e300, 0.0])
    return f"float@{at}={value}", data[:at] + struct.pack("<d", value) + data[at + 8 :]


_KINDS: tuple[Callable[[bytes, random.Random, Sequence[Range]], tuple[str, bytes]], ...] = (
    _truncate,
    _bit_flip,
    _integer,
    _zero,
    _grow_integer,
    _swap,
    _bit_flips,
    _random_bytes,
    _integer,
    _duplicate,
    _bit_flip,
    _splice,
    _grow_integer,
    _extend,
    _remove,
    _float,
)


def mutant(data: bytes, seed: int, index: int, hot: Sequence[Range] = ()) -> tuple[str, bytes]:
    """Return mutant `index`: its name and its bytes."""
    if len(data) < 2:
        return f"{index:04d}-short", data + bytes(index)
    rng = random.Random(f"{seed}/{index}")
    make = _KINDS[index % len(_KINDS)]
    for _ in range(100):
        name, broken = make(data, rng, hot)
        if broken != data:
            return f"{index:04d}-{name}", broken
    name, broken = _extend(data, rng, hot)
    return f"{index:04d}-{name}", broken


def mutants(data: bytes, count: int, seed: int, hot: Sequence[Range] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield `count` mutants of `data` as (name, bytes); `hot` are byte ranges [start, end) that deserve more of them."""
    for index in range(count):
        yield mutant(data, seed, index, hot)
