"""Whole Parquet files from bytes, read without threads.

`pyarrow.parquet.read_table` reads through Arrow's dataset machinery, whose threads may still let go of a Python object while the interpreter ends;
the process is then aborted, after everything was done (exit code -6, "terminate called without an active exception").
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq


def table_of(data: bytes, checksums: bool = False) -> pa.Table:
    """Return a Parquet file as a table; with `checksums` those of its pages are verified.

    Raises:
        pyarrow.ArrowInvalid, OSError: the file is damaged.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=checksums).read(use_threads=False)
