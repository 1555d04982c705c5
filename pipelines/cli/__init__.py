"""The command line: `dataengine`. Data on stdout, progress and messages on stderr; heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dataengine.core.errors import DataEngineError, UsageError
from dataengine.version import __version__
from pipelines.cli.bench import bench_app
from pipelines.cli.learning import evaluate_app, label, train
from pipelines.cli.options import DatasetOption, JsonOption, StoreArgument, StoreOption, WhereOption, YesOption

app = typer.Typer(
    name="dataengine",
    help="The data engine for robot learning: recordings in, one versioned store out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"dataengine {__version__}")
        raise typer.Exit


@app.callback()
def _app(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


@app.command()
def ingest(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Folders or files, local or s3://.")],
    store: StoreOption,
    dataset: Annotated[str | None, typer.Option("--dataset", help="One name for everything; by default each recording's folder names its dataset.")] = None,
    format_: Annotated[list[str] | None, typer.Option("--format", help="Only this format (see `dataengine sources`); may be given several times.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with more choices.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", min=0.001, help="Control rate in Hz of recordings that do not state theirs.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Keep raw frames exact instead of encoding them as video.")] = False,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="Blur faces; what cannot be searched for faces does not land.")] = False,
    scrub: Annotated[bool, typer.Option("--scrub", help="Take out names, places and serial numbers, by rule (see `privacy` in the config).")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="How many units are read at once; by default one a core.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Child processes of this machine instead of Ray.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray starts here by itself.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Land at most this many recordings of each dataset.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read, and read nothing.")] = False,
    single_writer: Annotated[bool, typer.Option("--single-writer", help="Write to an object store without conditional put; nobody else may write.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring recordings into a store, losslessly; run it again to go on where it stopped."""
    from pipelines.commands import ingesting

    ingesting.ingest(
        sources, store, dataset, format_ or [], config, rate, lossless, blur_faces, scrub, workers, local, address, limit, dry_run, single_writer, as_json
    )


@app.command()
def collect(
    environment: Annotated[str, typer.Argument(metavar="ENV", help="arm, square, errand, metaworld:TASK or gym:ID.")],
    store: StoreOption,
    dataset: Annotated[str, typer.Option("--dataset", help="The dataset that the episodes become part of.")],
    episodes: Annotated[int, typer.Option("-n", "--episodes", min=1, help="How many episodes there shall be, with the seeds from --seed on.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first episode.")] = 0,
    noise: Annotated[str, typer.Option("--noise", help="Levels of the perturbation of the script's commands; an episode's seed picks one.")] = "0",
    policy: Annotated[str, typer.Option("--policy", help="Who plays: expert or random.")] = "expert",
    size: Annotated[str | None, typer.Option("--size", metavar="HxW", help="Height and width of the pictures in px.")] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Cut an episode after so many actions; by default as the environment says.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Keep the pictures exact instead of encoding them as video.")] = False,
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with more choices, as for ingest.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="How many units are played at once; by default one a core.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Child processes of this machine instead of Ray.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray starts here by itself.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Record at most this many of them now.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Play a simulated environment and record it, each episode once; run it again to go on where it stopped."""
    from pipelines.commands import collecting

    collecting.collect(environment, store, dataset, episodes, seed, noise, policy, size, max_steps, lossless, config, workers, local, address, limit, as_json)


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help="Where the sample recordings and the store go.")] = "demo",
    local: Annotated[bool, typer.Option("--local", help="Child processes of this machine instead of Ray.")] = False,
) -> None:
    """Run the whole flow on sample recordings that the project makes itself."""
    from pipelines.commands import demonstrating

    demonstrating.demo(folder, local)


@app.command()
def materialize(
    store: StoreArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The store that the copy goes into; made where there is none.")],
    size: Annotated[str, typer.Option("--size", help="Height and width of every camera in px: 240x320, or 224 for a square.")],
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Only this dataset; may be given several times. By default all.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", min=0.001, help="Steps a second; without it the steps stay as they are.")] = None,
    where: WhereOption = None,
    fit: Annotated[str, typer.Option("--fit", help="How another shape is brought to the size: stretch, pad (black bars) or crop.")] = "stretch",
    crf: Annotated[
        int | None, typer.Option("--crf", min=1, max=51, help="Quality of the video, lower is better; raised where it would lose something.")
    ] = None,
    gop: Annotated[int | None, typer.Option("--gop", min=1, max=600, help="Frames from one key frame to the next.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="How many units are encoded at once; by default one a core.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Child processes of this machine instead of Ray.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray starts here by itself.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Copy at most this many more episodes of each dataset.")] = None,
    single_writer: Annotated[bool, typer.Option("--single-writer", help="Write to an object store without conditional put; nobody else may write.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a training-ready copy: cameras in one size, one frame a step; run it again to go on where it stopped."""
    from pipelines.commands import materializing

    materializing.materialize(
        store, out, dataset or [], size, rate, where, materializing.known_fit(fit), crf, gop, workers, local, address, limit, single_writer, as_json
    )


@app.command()
def sources(
    datasets: Annotated[bool, typer.Option("--datasets", help="List the known datasets instead of the formats.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the formats that can be ingested and how each is recognised."""
    from pipelines.commands import showing

    showing.sources(datasets, as_json)


@app.command()
def ls(store: StoreArgument, dataset: DatasetOption = None, where: WhereOption = None, as_json: JsonOption = False) -> None:
    """List the episodes of a store."""
    from pipelines.commands import showing

    showing.ls(store, dataset, where, as_json)


@app.command()
def show(store: StoreArgument, episode: Annotated[str, typer.Argument(help="Id of an episode, or the beginning of one.")], as_json: JsonOption = False) -> None:
    """Show one episode: streams, rates, gaps, tasks, where it comes from."""
    from pipelines.commands import showing

    showing.show(store, episode, as_json)


@app.command()
def check(
    store: StoreArgument,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte: checksums, digests, plausibility.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a store; exit code 3 if there are problems."""
    from pipelines.commands import showing

    showing.check(store, deep, as_json)


@app.command()
def stats(
    store: StoreArgument,
    dataset: DatasetOption = None,
    where: WhereOption = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Apart for each: embodiment or control-mode (what the actions are, absolute or relative, frame).")
    ] = None,
    horizon: Annotated[int | None, typer.Option("--horizon", help="Of windows of so many steps of the action, step by step, instead of every column.")] = None,
    relative: Annotated[
        str | None, typer.Option("--relative", help="With --horizon: as changes from the state, from the first action of the window, or consecutive ones.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print mean, std, min, max and quantiles of each numeric column; they are kept with the version."""
    from pipelines.commands import statistics

    statistics.stats(store, dataset, where, by, horizon, relative, as_json)


@app.command()
def rejects(
    store: StoreArgument,
    retry: Annotated[bool, typer.Option("--retry", help="Read the items that were rejected again.")] = False,
    config: Annotated[str | None, typer.Option("--config", help="With --retry: the YAML file of the first ingest.")] = None,
    blur_faces: Annotated[bool, typer.Option("--blur-faces", help="With --retry: blur faces.")] = False,
    scrub: Annotated[bool, typer.Option("--scrub", help="With --retry: take out names, places and serial numbers.")] = False,
    local: Annotated[bool, typer.Option("--local", help="With --retry: child processes of this machine instead of Ray.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the recordings that were rejected, and why."""
    from pipelines.commands import ingesting, showing

    if retry:
        ingesting.retry(store, config, blur_faces, scrub, local, as_json)
    else:
        showing.rejects(store, as_json)


@app.command()
def log(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List the versions of a store, newest first."""
    from pipelines.commands import versioning

    versioning.log(store, as_json)


@app.command()
def diff(
    store: StoreArgument,
    a: Annotated[str, typer.Argument(help="A version number or tag.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two versions."""
    from pipelines.commands import versioning

    versioning.diff(store, a, b, as_json)


@app.command()
def tag(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(help="The tag: a slug, not all digits.")],
    ref: Annotated[str | None, typer.Argument(help="The version it names; by default the latest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a version a name, for ever."""
    from pipelines.commands import versioning

    versioning.tag(store, name, ref, as_json)


@app.command()
def restore(store: StoreArgument, ref: Annotated[str, typer.Argument(help="The version whose content comes back.")], as_json: JsonOption = False) -> None:
    """Make a new version with the content of an older one."""
    from pipelines.commands import versioning

    versioning.restore(store, ref, as_json)


@app.command()
def rm(
    store: StoreArgument,
    where: Annotated[str | None, typer.Option("--where", help="Which episodes: an SQL condition over episode columns.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Take out labels of this set instead, of all episodes or of those --where names.")] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take episodes, or a label set, out of the next version; older versions keep them."""
    from pipelines.commands import versioning

    if labels is not None:
        versioning.rm_labels(store, labels, where, yes, as_json)
    elif where is not None:
        versioning.rm(store, where, yes, as_json)
    else:
        raise UsageError("rm: must be told what to take out, got neither --where nor --labels")


@app.command()
def gc(
    store: StoreArgument,
    forget: Annotated[list[int] | None, typer.Option("--forget", help="Also drop this version; may be given several times.")] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what no version needs: leftovers of jobs that died, and versions that are named."""
    from pipelines.commands import versioning

    versioning.gc(store, forget or [], yes, as_json)


@app.command()
def purge(
    store: StoreArgument,
    episodes: Annotated[list[str], typer.Argument(metavar="EPISODE...", help="Ids of episodes.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is written down.")] = "consent withdrawn",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase the content of episodes from every version: for withdrawn consent."""
    from pipelines.commands import versioning

    versioning.purge(store, episodes, reason, yes, as_json)


export_app = typer.Typer(help="Write a dataset of a version as files that other tools read.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(export_app, name="export")


@export_app.command("webdataset")
def export_webdataset(
    store: StoreArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new or an empty folder.")],
    dataset: DatasetOption = None,
    size: Annotated[str | None, typer.Option("--size", help="Height and width of every camera in px: 240x320, or 224; by default as they are.")] = None,
    fit: Annotated[str, typer.Option("--fit", help="How another shape is brought to the size: stretch, pad (black bars) or crop.")] = "stretch",
    by: Annotated[str, typer.Option("--by", help="What a sample is: a step (JPEG) or a clip (MP4).")] = "step",
    clip_steps: Annotated[int, typer.Option("--clip-steps", min=1, help="Steps of a clip, at most.")] = 100,
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="Quality of JPEGs that are made; stored ones are given as they are.")] = 95,
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="How large an archive may be.")] = 256,
    where: WhereOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write WebDataset archives: samples of steps or clips, and index.json."""
    from pipelines.commands import exporting

    exporting.webdataset(store, dataset, out, size, fit, by, clip_steps, quality, shard_mb, where, as_json)


app.add_typer(bench_app, name="bench")
app.add_typer(evaluate_app, name="evaluate")
app.command()(train)
app.command()(label)


def main() -> None:
    """Run the command line; exit codes: 0 done, 3 some recordings were rejected or problems found, 2 wrong call or config, 1 anything else."""
    try:
        app()
    except UsageError as error:
        print(f"dataengine: {error}", file=sys.stderr)
        sys.exit(2)
    except DataEngineError as error:
        print(f"dataengine: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("dataengine: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        print(f"dataengine: {error}; the store is as its last commit left it, run the same command again to go on", file=sys.stderr)
        sys.exit(1)
