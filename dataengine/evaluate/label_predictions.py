"""Everything that was said and measured, step by step, as Parquet: who doubts a figure can work it out anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from dataengine.evaluate.comparison import Comparison
from dataengine.evaluate.label_trial import Judgement

FOLDER = "predictions"


def predictions(comparison: Comparison) -> pl.DataFrame:
    """Return a row a step: its part and step, what was measured and what each source said, null where there is nothing."""
    columns: dict[str, pl.Series] = {
        "part": pl.Series([comparison.names[number] for number in comparison.part], dtype=pl.String),
        "step": pl.Series(comparison.step),
        "judged": pl.Series(comparison.common),
    }
    for entry, dim in enumerate(comparison.dims):
        columns[f"measured.{dim}"] = _nulled(comparison.truth[:, entry], comparison.valid)
        for name, said in comparison.said.items():
            columns[f"{name}.{dim}"] = _nulled(said.values[:, entry], said.valid)
            for end, array in (("low", said.low), ("high", said.high)):
                if array is not None:
                    columns[f"{name}.{dim}.{end}"] = _nulled(array[:, entry], said.valid)
    for name, said in comparison.said.items():
        if said.confidence is not None:
            columns[f"{name}.confidence"] = _nulled(said.confidence, np.isfinite(said.confidence))
    return pl.DataFrame(columns)


def _nulled(values: np.ndarray, valid: np.ndarray) -> pl.Series:
    return pl.select(pl.when(pl.Series(valid)).then(pl.Series(values.astype(np.float64))).otherwise(None)).to_series()


def write_predictions(folder: Path, judgement: Judgement) -> None:
    """Write a file a target: `predictions/<dataset>.<target>.parquet`."""
    (folder / FOLDER).mkdir(exist_ok=True)
    for kind, comparison in judgement.comparisons.items():
        predictions(comparison).write_parquet(folder / FOLDER / f"{judgement.document['dataset']}.{kind}.parquet")
