"""HDF5 of the robomimic/LIBERO/robosuite family: many demonstrations a file, `data/demo_<i>/{actions, states, obs/…}`, splits under `mask`.

The rate is the control frequency that the file's environment settings state, and null where they state none.

Success of a demonstration is, in this order:
    1. its attribute `success`, where it is 0 or 1;
    2. rewards that are all 0 or 1 and hold a 1: True (LIBERO and robomimic write a sparse reward of 1 where the task is done);
    3. such rewards without a 1: False, but only where the settings say that the environment is robosuite's (type 1) and its reward sparse
       (`reward_shaping` false), since recorders of real robots leave zeros;
    4. else unknown.
Source: robomimic's page on the structure of datasets; robosuite's `collect_human_demonstrations.py`; LIBERO's `create_dataset.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, ReadOptions
from dataengine.core.stream import Rows
from dataengine.schema.embodiments import embodiments
from dataengine.sources.hdf5.robosuite_actions import action_facts
from dataengine.sources.hdf5.streams import Emitted, Plan, form_of, plan, rows_of, small_value, stream_name, unused
from dataengine.sources.hdf5.tree import Notes, Tree, attributes, child, find, guarded, has, names, number_of, problem_of, truth_of, walk
from dataengine.sources.hdf5.values import inspect, whole

NAME = "robomimic"
LAYOUT = "data/demo_<i>/actions, many demonstrations a file"

STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "states": ("observation.state", {"meaning": "state", "doc": "flattened state of the simulation: time, positions, velocities"}),
    "rewards": ("reward", {"meaning": "reward"}),
    "dones": ("done", {"meaning": "flag"}),
}
SETTINGS = ("env_args", "env_info")  # attributes of `data`: JSON of the environment
MAX_MASK_BYTES = 64 << 20
MAX_REWARD_ROWS = 10_000_000

_DEMO = re.compile(r"demo_?\d+")
_CAMERA = re.compile(r"_(image|rgb)$")


def recognise(tree: Tree) -> bool:
    """Return whether the file has this layout; a group `data` without any demonstration is claimed too, and then rejected."""
    import h5py

    return isinstance(find(tree, tree.root, "", "data"), h5py.Group)


def numeric_order(name: str) -> tuple[int, str]:
    """Return a key that sorts demo_2 before demo_10; names without a number come last."""
    found = re.search(r"(\d{1,18})$", name)
    return (int(found.group(1)) if found else 2**63, name)


def settings_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment's settings as one mapping: what `env_args` says at its top and below `env_kwargs`, or `env_info`."""
    for name in SETTINGS:
        text = found.get(name)
        if not isinstance(text, str):
            continue
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(parsed, dict):
            inner = parsed.get("env_kwargs")
            return {**(inner if isinstance(inner, dict) else {}), **parsed}
    return {}


def tasks_of(data: Mapping[str, Any], demo: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the instruction: of the demo, else LIBERO's `problem_info`, else the words in the name of its BDDL file."""
    candidates: list[Any] = [demo.get("language_instruction"), demo.get("lang"), data.get("language_instruction")]
    try:
        problem = json.loads(data["problem_info"]) if isinstance(data.get("problem_info"), str) else {}
    except (ValueError, RecursionError):
        problem = {}
    if isinstance(problem, dict):
        candidates.append(problem.get("language_instruction"))
    for candidate in candidates:
        text = " ".join(part for part in candidate if isinstance(part, str)) if isinstance(candidate, list) else candidate
        if isinstance(text, str) and text.strip(' "\n'):
            return (printable(text.strip(' "\n')),)
    bddl = data.get("bddl_file_name")
    if isinstance(bddl, str) and bddl.endswith(".bddl"):
        words = re.sub(r"^[A-Z_]+SCENE\d+_", "", bddl.rsplit("/", 1)[-1].removesuffix(".bddl")).replace("_", " ").strip()
        return (words,) if words else ()
    return ()


def embodiment_of(settings: Mapping[str, Any]) -> str | None:
    """Return the robot's name as `configs/embodiments` knows it, else as a slug; several are joined by "+"."""
    robots = settings.get("robots")
    listed = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
    slugs = [re.sub(r"[^a-z0-9]+", "_", robot.lower()).strip("_")[:60] for robot in listed if isinstance(robot, str)]
    known = {name: body.name for body in embodiments().values() for name in (body.name, *body.aliases)}
    return "+".join(known.get(name, name) for name in slugs if name)[:200] or None


def splits_of(tree: Tree, demos: set[str]) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """Return the splits of each demo as `mask` lists them, and what is wrong with `mask`: demos that are absent, lists that cannot be read."""
    import h5py

    found: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    try:
        mask = find(tree, tree.root, "", "mask")
        listed = names(tree, mask, "mask")[:1000] if isinstance(mask, h5py.Group) else []
    except BadRecording as error:
        return found, [problem_of(error)]
    for split in listed:
        try:
            named = _named(tree, child(tree, mask, "mask", split), f"mask/{split}")
        except BadRecording as error:
            problems.append(problem_of(error))
            continue
        for demo in named & demos:
            found[demo] = (*found.get(demo, ()), printable(split))
        absent = sorted(named - demos, key=numeric_order)
        if absent:
            shown = ", ".join(printable(name)[:100] for name in absent[:5])
            where = tree.where(f"mask/{split}")
            message = f"{where}: expected demonstrations of this file, found {len(absent)} that are absent ({shown}); look for the rest of the file"
            problems.append(Problem("missing_demo", message, where))
    return found, problems


def _named(tree: Tree, thing: Any, path: str) -> set[str]:
    """Return the names that a list of `mask` holds."""
    import h5py

    values = None
    if isinstance(thing, h5py.Dataset):
        table = inspect(tree, thing, path)
        values = whole(table, MAX_MASK_BYTES) if table.content == "text" else None
    if values is None:
        raise BadRecording(tree.where(path), "a list of names of demonstrations", "something else", "write the names as text", check="odd_mask")
    parts = [values] if isinstance(values, str) else values.reshape(-1).tolist()
    return {part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else str(part) for part in parts}


def stream_of(path: str, picture: bool) -> str:
    """Return the stream's name of a path below a demo: obs/agentview_image is observation.images.agentview, next_obs/… next_observation.…"""
    if path in STREAMS:
        return STREAMS[path][0]
    if path == "actions":
        return "action"
    head, _, rest = path.partition("/")
    group = {"obs": "observation", "next_obs": "next_observation"}.get(head)
    if group is None or not rest:
        return stream_name(path)
    return f"{group}.images.{stream_name(_CAMERA.sub('', rest))}" if picture else f"{group}.{stream_name(rest)}"


def _datasets(tree: Tree, demo: Any, at: str, notes: Notes) -> dict[str, Any]:
    """Return the datasets of a demo by their path below it; attributes on the way are kept."""
    import h5py

    found: dict[str, Any] = {}
    for path, thing in walk(tree, demo, at):
        attributes(tree, thing, path, notes)
        if isinstance(thing, h5py.Dataset):
            found[path.removeprefix(at).lstrip("/")] = thing
    return found


def _plans(tree: Tree, found: Mapping[str, Any], at: str, settings: Mapping[str, Any], notes: Notes) -> list[Plan]:
    """Plan a stream for each dataset of a demo that has a row for each step; the others become metadata."""
    if "actions" not in found:
        raise BadRecording(tree.where(at), "a dataset 'actions'", "none", "remove the demonstration or record it again", check="missing_action")
    actions = inspect(tree, found["actions"], f"{at}/actions")
    if actions.rows < 1 or actions.content != "numeric":
        raise BadRecording(actions.where, "numbers with one row for each step", f"shape {actions.shape} of {actions.dtype}", check="no_steps")
    plans: list[Plan] = []
    taken = {"action", *(name for name, _ in STREAMS.values())}
    for path, dataset in found.items():
        table = inspect(tree, dataset, f"{at}/{path}")
        numbers = path == "actions" or path in STREAMS
        known = numbers or path.startswith(("obs/", "next_obs/"))
        if not known and not actions.rows <= table.rows <= actions.rows + 1:
            small_value(tree, dataset, f"{at}/{path}", notes)
            continue
        facts = action_facts(settings, table.shape) if path == "actions" else STREAMS[path][1] if path in STREAMS else {}
        name = stream_of(path, form_of(table) in ("frames", "depth", "compressed"))
        planned = plan(table, name if numbers else unused(name, taken), path, **facts)
        if planned is not None and (planned.form == "numbers" or not numbers):
            plans.append(planned)
            taken.add(planned.column.name)
        elif known:
            raise BadRecording(table.where, "a row for each step, of numbers or pictures", f"shape {table.shape} of {table.dtype}", check="odd_type")
        else:
            notes.warn("dataset_not_kept", table.where, f"the dataset is not kept, as its type cannot be kept as rows ({table.dtype})")
    return plans


def _reward_success(rewards: list[Any], settings: Mapping[str, Any]) -> bool | None:
    """Return what sparse rewards say; see the module's page."""
    values = np.concatenate(rewards) if rewards else np.empty(0)
    if not len(values) or not np.isin(values, (0, 1)).all():
        return None
    if values.any():
        return True
    return False if settings.get("type") == 1 and settings.get("reward_shaping") is False else None


def _read_demo(tree: Tree, key: str, item: Item, options: ReadOptions, data: Any, data_attributes: Mapping[str, Any]) -> Iterator[Rows | EpisodeInfo]:
    """Yield the rows of one demonstration, then its end with the splits of its item."""
    import h5py

    at = f"data/{key}"
    demo = child(tree, data, "data", key)
    if not isinstance(demo, h5py.Group):
        raise BadRecording(tree.where(at), "a group with the datasets of a demonstration", "a dataset", check="odd_type")
    notes = Notes()
    settings = settings_of(data_attributes)
    plans = _plans(tree, _datasets(tree, demo, at, notes), at, settings, notes)
    own = attributes(tree, demo, at)
    for name, value in data_attributes.items():
        notes.keep("attributes", f"/data@{name}", value, len(str(value)), tree.where("data"))
    emitted = Emitted()
    rewards: list[Any] = []
    for planned in plans:
        for rows in rows_of(planned, emitted, notes):
            if planned.column.name == "reward" and isinstance(rows.values, np.ndarray) and sum(map(len, rewards)) < MAX_REWARD_ROWS:
                rewards.append(rows.values)
            yield rows
    said = truth_of(own, "success")
    rate_hz = number_of(settings, "control_freq") or number_of(options.description, "rate_hz") or options.rate_hz
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=emitted.columns,
        clock="nominal" if rate_hz else "unknown",
        key=printable(key),
        rate_hz=rate_hz,
        follow="action",
        tasks=tasks_of(data_attributes, own),
        success=_reward_success(rewards, settings) if said is None else said,
        splits=item.splits,
        embodiment=embodiment_of(settings) or options.description.get("embodiment"),
        origin="teleop",
        metadata={"format": "hdf5/robomimic", **notes.metadata},
        problems=notes.all_problems(),
    )


def _is_demo(data: Any, name: str) -> bool:
    """Return whether a member of `data` is a demonstration: by its name, else by what it holds; no link is followed."""
    import h5py

    if _DEMO.fullmatch(name):
        return True
    raw = name.encode("utf-8", "surrogateescape")
    with guarded(name, "a member that can be looked at"):
        if data.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            return False
        member = data[raw]
    return isinstance(member, h5py.Group) and has(member, "actions")


def read(tree: Tree, item: Item, options: ReadOptions) -> Iterator[Event]:
    """Read the demonstrations of a file in the order of their numbers; a broken one is rejected, the others go on.

    Raises:
        BadRecording: no demonstration, or groups that cannot be read.
    """
    data = find(tree, tree.root, "", "data")
    members = names(tree, data, "data")
    demos: list[str] = []
    for name in members:
        try:
            if _is_demo(data, name):
                demos.append(name)
            else:
                yield Noticed(Problem("not_a_demo", f"{tree.where(f'data/{name}')}: not read, as it is no demonstration", tree.where(f"data/{name}")))
        except BadRecording as error:
            yield Noticed(problem_of(error))
    if not demos:
        raise BadRecording(tree.where("data"), "demonstrations (demo_0, …)", f"none among {len(members)} members", "record again", check="no_demos")
    notes = Notes()
    data_attributes = attributes(tree, data, "data", notes)
    if not settings_of(data_attributes) and any(isinstance(data_attributes.get(name), str) for name in SETTINGS):
        notes.warn("unreadable_settings", tree.where("data"), f"{' or '.join(SETTINGS)} is no JSON object: rate, robot and controller stay unknown")
    splits, problems = splits_of(tree, set(demos))
    yield from (Noticed(problem) for problem in (*notes.all_problems(), *problems))
    for key in sorted(demos, key=numeric_order):
        chosen = splits.get(key, item.splits)
        try:
            yield from _read_demo(tree, key, replace(item, splits=chosen), options, data, data_attributes)
        except BadRecording as error:
            yield Rejected(printable(key), problem_of(error))
