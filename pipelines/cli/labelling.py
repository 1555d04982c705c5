"""`dataengine label`: what a model says of every step."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, WhereOption


def label(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="idm, latent, mapped, value, flow_ridge or retarget.")],
    store: Annotated[str, typer.Option("--store", metavar="STORE[@REF]", help="The store whose episodes are labelled, optionally as a version has them.")],
    label_set: Annotated[str, typer.Option("--label-set", help="The name that the labels get; it stands for one model with one set of parameters.")],
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="A dataset to label; may be given several times.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Folder of the model, as `dataengine train` wrote it; retarget needs none.")] = None,
    where: WhereOption = None,
    abstain: Annotated[float | None, typer.Option("--abstain", help="Leave out values with a confidence below this (0 to 1); they are null.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with the settings of a method that needs no model.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="One such setting; may be given several times.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="How many steps the model is asked about at once.")] = 64,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="How many actors hold the model; by default one a GPU, else one a core.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Child processes of this machine instead of Ray.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray starts here by itself.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Label at most this many more episodes.")] = None,
    single_writer: Annotated[bool, typer.Option("--single-writer", help="Write to an object store without conditional put; nobody else may write.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Label every step of episodes with a model, beside what was recorded; run it again to go on where it stopped."""
    from pipelines.commands import labelling

    labelling.label(
        method,
        store,
        label_set,
        dataset or [],
        model,
        where,
        abstain,
        config,
        option or [],
        batch_size,
        device,
        workers,
        local,
        address,
        limit,
        single_writer,
        as_json,
    )
