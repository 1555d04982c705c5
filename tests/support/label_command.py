"""The command line with one more method of labelling, small units, and a commit for each: `python -m tests.support.label_command label square ...`."""

from __future__ import annotations

import pipelines.label
from dataengine.labels.registry import LABELLERS
from pipelines.cli import main
from tests.support.square_labeller import SQUARE

if __name__ == "__main__":
    LABELLERS["square"] = SQUARE
    pipelines.label.UNIT_STEPS = (100, 100)
    pipelines.label.COMMIT_S = 0.0
    main()
