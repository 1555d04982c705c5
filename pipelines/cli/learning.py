"""`dataengine train`, `dataengine label` and `dataengine evaluate`: models of what is in a store, what they say, and verdicts on it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, StoreArgument, StoreOption, WhereOption

evaluate_app = typer.Typer(help="Say how good labels are, and whether they help.", no_args_is_help=True, rich_markup_mode=None)


def train(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="idm, latent, mapped, value or flow_ridge.")],
    store: StoreOption,
    out: Annotated[str, typer.Option("--out", help="Folder of the model; run again with the same choices to go on where it stopped.")],
    dataset: Annotated[list[str], typer.Option("--dataset", help="A dataset to learn from; may be given several times.")],
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with the model's and the training's settings.")] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="tiny, small, base or large, and others of a kind's own; by default tiny.")] = None,
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


@evaluate_app.command("downstream")
def evaluate_downstream(
    store: StoreArgument,
    real: Annotated[str, typer.Option("--real", help="The dataset of demonstrations with measured actions.")],
    labelled: Annotated[str, typer.Option("--labelled", help="The dataset of demonstrations that have pseudo-labels.")],
    label_set: Annotated[str, typer.Option("--label-set", help="The set of pseudo-labels that is judged.")],
    environment: Annotated[str, typer.Option("--environment", help="What policies are played in: metaworld:push-v3, arm, gym:<id>.")],
    column: Annotated[str | None, typer.Option("--column", help="The labelled column that stands for the action; by default the one shaped as it.")] = None,
    real_episodes: Annotated[int, typer.Option("--real-episodes", min=1, help="Real demonstrations that each policy learns from.")] = 3,
    labelled_episodes: Annotated[int, typer.Option("--labelled-episodes", min=1, help="Pseudo-labelled ones beside them.")] = 40,
    where_real: Annotated[str | None, typer.Option("--where-real", help="Which real episodes; by default those that did not fail.")] = None,
    where_labelled: Annotated[str | None, typer.Option("--where-labelled", help="Which labelled episodes; by default those that did not fail.")] = None,
    episodes: Annotated[int, typer.Option("-n", "--episodes", min=1, help="Episodes played under each condition, over all its policies.")] = 200,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Policies of each condition.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first policy's: of its demonstrations, weights and episodes.")] = 0,
    policy: Annotated[str, typer.Option("--policy", help="What policies see: state or image.")] = "state",
    size: Annotated[str | None, typer.Option("--size", help="With --policy image: height x width in px; by default 64x64.")] = None,
    confidence: Annotated[float | None, typer.Option("--confidence", help="What `filtered` asks of a label; by default the least sure quarter goes.")] = None,
    conditions: Annotated[str | None, typer.Option("--conditions", help="Some of real,perfect,pseudo,filtered,weighted,shuffled; by default all.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with the settings of cloning.")] = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder for the report as JSON and as a page.")] = None,
    record: Annotated[bool, typer.Option("--record/--no-record", help="Keep the verdict in the store, with the label set.")] = True,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Policies at work at once; by default one a core.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Child processes of this machine instead of Ray.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray starts here by itself.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Clone policies with and without pseudo-labels, play them, and say whether the labels help; the verdict is kept with the label set."""
    from pipelines.commands import gating

    gating.downstream(
        store,
        real,
        labelled,
        label_set,
        environment,
        column,
        (real_episodes, labelled_episodes),
        (where_real, where_labelled),
        (episodes, seeds, seed),
        policy,
        size,
        confidence,
        conditions,
        config,
        out,
        record,
        workers,
        local,
        address,
        as_json,
    )


@evaluate_app.command("labels")
def evaluate_labels(
    store: StoreArgument,
    dataset: Annotated[list[str], typer.Option("--dataset", help="A dataset whose episodes are judged; may be given several times.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the report: labels.json, report.html and predictions/.")],
    label_set: Annotated[list[str] | None, typer.Option("--label-set", help="A label set of the store; may be given several times.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Folder of a model that labels now; may be given several times.")] = None,
    learn: Annotated[
        list[str] | None,
        typer.Option("--learn", metavar="KIND[=SETTINGS.yaml]", help="A kind of model that learns anew from each fold: idm, or idm:single_frame."),
    ] = None,
    baselines: Annotated[str, typer.Option("--baselines", help="all, none, or names with commas between.")] = "all",
    train_dataset: Annotated[
        list[str] | None, typer.Option("--train-dataset", help="What baselines learn from, whole; by default other episodes of --dataset.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="datasets, episodes (in folds), each_episode, or halves (of each episode, in time).")] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="With --split episodes: how many.")] = 5,
    against: Annotated[list[str] | None, typer.Option("--against", help="action (what was commanded) or state (what was achieved); by default both.")] = None,
    where: WhereOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many judged episodes of each dataset.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds, of what learns, and of the resampling of episodes.")] = 0,
    device: Annotated[str, typer.Option("--device", help="Where models run: cpu, cuda, or auto: a GPU where there is one.")] = "cpu",
    latent: Annotated[
        bool, typer.Option("--latent", help="They are latent actions: judge them by probes, by their decoder and by how codes are used.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say how good labels of actions are: against what was measured, on episodes that were not learned from, beside baselines."""
    from pipelines.commands import judging_labels

    judging_labels.labels(
        store,
        dataset,
        label_set or [],
        model or [],
        learn or [],
        baselines,
        train_dataset or [],
        split,
        folds,
        against or [],
        where,
        limit,
        seed,
        device,
        latent,
        out,
        as_json,
    )


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
