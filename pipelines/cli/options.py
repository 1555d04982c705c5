"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

StoreOption = Annotated[str, typer.Option("--store", help="The store: a folder, or s3://bucket/prefix.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE[@REF][#DATASET]", help="The store, optionally at a version number or tag.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
WhereOption = Annotated[str | None, typer.Option("--where", help='SQL condition over episode columns, e.g. "success and steps > 100".')]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Only this dataset.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking: for scripts.")]
