"""`dataengine bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption

bench_app = typer.Typer(help="Measure: ratios against a floor, a bare reader or peers, in one run.", no_args_is_help=True, rich_markup_mode=None)
WorkOption = Annotated[str | None, typer.Option("--work", help="Folder for the data that the benchmark makes; kept for the next run. By default a new one.")]


@bench_app.command("ingest")
def bench_ingest(
    size_mb: Annotated[int, typer.Option("--size-mb", min=8, help="How much data each format gets.")] = 1024,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often each side runs; the median counts.")] = 3,
    peers: Annotated[str | None, typer.Option("--peers", help="Folder with the peers' virtual environments `tfds` and `lerobot`.")] = None,
    work: WorkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ingest RLDS beside the floor of reading and writing, MCAP beside its bare reader, kept video beside a copy."""
    from pipelines.commands import benching

    benching.ingest(size_mb, repeats, peers, work, as_json)


@bench_app.command("catalog")
def bench_catalog(
    episodes: Annotated[int, typer.Option("--episodes", min=1000)] = 1_000_000,
    commits: Annotated[int, typer.Option("--commits", min=1)] = 2000,
    repeats: Annotated[int, typer.Option("--repeats", min=1)] = 5,
    work: WorkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open and filter a catalogue of a million episodes written in thousands of commits; read version 1 after the log has aged."""
    from pipelines.commands import benching

    benching.catalog(episodes, commits, repeats, work, as_json)


@bench_app.command("load")
def bench_load(
    episodes: Annotated[int, typer.Option("--episodes", min=2, help="How many are recorded.")] = 40,
    steps: Annotated[int, typer.Option("--steps", min=20, help="How long each is.")] = 200,
    height: Annotated[int, typer.Option("--height", min=32, help="Of pictures, px.")] = 240,
    width: Annotated[int, typer.Option("--width", min=32, help="Of pictures, px.")] = 320,
    gop: Annotated[int, typer.Option("--gop", min=1, help="Distance of key frames in our videos.")] = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often each side runs; the median counts.")] = 3,
    large: Annotated[bool, typer.Option("--large", help="Also the first batch from 10,000 episodes, and opening a million.")] = False,
    peers: Annotated[str | None, typer.Option("--peers", help="Folder with the peers' virtual environments `lerobot` and `webdataset`.")] = None,
    work: WorkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read training samples beside LeRobot and WebDataset on the same frames at equal quality, and beside a bare decode of the same videos."""
    from pipelines.bench_load_data import RawSpec
    from pipelines.commands import benching

    benching.load(RawSpec(episodes, steps, height, width), repeats, gop, large, peers, work, as_json)


@bench_app.command("label")
def bench_label(
    environment: Annotated[str, typer.Option("--environment", help="metaworld:push-v3, arm, square or errand.")] = "metaworld:push-v3",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Models of each kind, and policies of each condition.")] = 3,
    only: Annotated[str | None, typer.Option("--only", help="Some of idm,latent,downstream,speed; by default all.")] = None,
    episodes: Annotated[int, typer.Option("-n", "--episodes", min=1, help="Episodes played under each condition of the gate.")] = 200,
    work: WorkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect, train, label, evaluate and pass the gate: how good labels of actions are here, beside their baselines and the goals."""
    from pipelines.commands import benching

    benching.label(environment, seeds, only, episodes, work, as_json)
