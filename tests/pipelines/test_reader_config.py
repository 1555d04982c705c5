"""Each format has a place in the configuration, and no other name has."""

from __future__ import annotations

from dataengine.sources.registry import READERS
from pipelines.reader_config import ReadersConfig


def test_the_configuration_names_the_formats_that_there_are() -> None:
    own = [name for name, module in READERS.items() if getattr(module, "__name__", "").startswith("dataengine.")]  # another test may plant a reader
    assert list(ReadersConfig.model_fields) == own
    assert {name: ReadersConfig().of(name) for name in own} == {name: {} for name in own}
