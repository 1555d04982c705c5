"""Parts of a store that are gone, or are not what was written: said in one sentence, whatever library stumbled over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects


@contextmanager
def naming_damage(objects: Objects, key: str, what: str) -> Iterator[None]:
    """Turn the failure to find or to parse an object into CorruptStore, which names it and says what it should be."""
    try:
        yield
    except FileNotFoundError:
        raise CorruptStore(f"{objects.url}/{key}: expected {what}, found none; restore it from a copy") from None
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        first = str(error).strip().split("\n")[0][:200]
        raise CorruptStore(f"{objects.url}/{key}: expected {what}, found something else ({type(error).__name__}: {first}); restore it from a copy") from error
