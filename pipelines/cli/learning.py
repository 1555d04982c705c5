"""`dataengine train` and `dataengine evaluate`: models of what is in a store, and verdicts on what they say."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, StoreArgument, StoreOption, WhereOption

evaluate_app = typer.Typer(help="Say how good labels are, and whether they help.", no_args_is_help=True, rich_markup_mode=None)


def train(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="idm, latent, mapped or value.")],
    store: StoreOption,
    out: Annotated[str, typer.Option("--out", help="Folder of the model; run again with the same choices to go on where it stopped.")],
    dataset: Annotated[list[str], typer.Option("--dataset", help="A dataset to learn from; may be given several times.")],
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with the model's and the training's settings.")] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="tiny, small, base or large; by default tiny.")] = None,
    where: WhereOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the weights, the order of the samples and all else that is random.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Batches to learn from, in place of the config's.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    ranks: Annotated[int, typer.Option("--ranks", min=1, help="Processes that train together, on Ray: one a GPU.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that read ahead, for each rank; 0 reads in the training process.")] = 0,
    address: Annotated[str | None, typer.Option("--address", help="With --ranks: address of a Ray cluster; by default Ray starts here by itself.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a version of a store; write it, what it learned from and how it went into a folder."""
    from pipelines.commands import training

    training.train(kind, store, out, dataset, config, scale, where, seed, steps, device, ranks, workers, address, as_json)


@evaluate_app.command("values")
def evaluate_values(
    store: StoreArgument,
    dataset: Annotated[str, typer.Option("--dataset", help="The dataset whose labels are judged; best one that the model did not learn from.")],
    label_set: Annotated[str, typer.Option("--label-set", help="The set of value labels.")],
    where: WhereOption = None,
    baseline_dataset: Annotated[
        str | None, typer.Option("--baseline-dataset", help="What the ridge on one state learns from; by default other episodes of the same dataset.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resampling of episodes.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Say how good value labels are: progress and success on episodes whose outcome is known, beside baselines."""
    from pipelines.commands import judging_values

    judging_values.values(store, dataset, label_set, where, baseline_dataset, seed, as_json)
