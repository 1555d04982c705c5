"""`dataengine log, diff, tag, restore, rm, gc, purge`: versions of a store, printed."""

from __future__ import annotations

import shlex

import typer

from dataengine.core.errors import UsageError
from dataengine.core.objects import Objects, open_objects
from dataengine.store.refs import OPEN, latest_version, parse_address, put_tag, resolve
from dataengine.store.store import Store, open_store, require_store
from dataengine.store.verdicts import in_short, read_verdicts
from pipelines.commands.printing import confirm, count, note, print_json, size, table, when

SHOWN = 20


def _whole(address: str) -> Objects:
    """Return the store an address names; a version or dataset makes no sense where all of it is meant."""
    parsed = parse_address(address)
    if parsed.ref is not None or parsed.dataset is not None:
        raise UsageError(f"{address!r}: this concerns the whole store; leave out what follows '@' or '#'")
    objects = open_objects(parsed.url)
    require_store(objects)
    return objects


def log(address: str, as_json: bool) -> None:
    """List versions, newest first."""
    from dataengine.versions.history import log as entries

    objects = _whole(address)
    found = entries(objects)
    verdicts = [in_short(document) for document in read_verdicts(Store(objects, OPEN))]
    if as_json:
        print_json([entry.as_dict() | {"verdicts": [one for one in verdicts if one["version"] == entry.version.number]} for entry in found])
        return
    rows = []
    for entry in found:
        version, counts = entry.version, entry.version.counts
        what = ", ".join(
            f"{counts[key]} {key.replace('_', ' ')}" for key in ("landed", "labelled", "skipped", "rejected", "removed", "labels_removed") if counts.get(key)
        )
        rows.append(
            [
                version.number,
                ", ".join(entry.tags),
                when(version.created_ns),
                version.created_by,
                f"{counts.get('episodes', 0):,}",
                f"{counts.get('steps', 0):,}",
                what,
                version.command[:80],
            ]
        )
    table(["version", "tags", "when (UTC)", "who", "episodes", "steps", "what", "command"], rows, right=["version", "episodes", "steps"])
    for one in verdicts:
        print(
            f"labels {one['label_set']} of version {one['version']}: {one['verdict']} in {one['environment']} ({one['reason']}); judged {when(one['created_ns'])}"
        )


def diff(address: str, a: str, b: str, as_json: bool) -> None:
    """Say what differs between two versions."""
    from dataengine.versions.history import diff as differences

    objects = _whole(address)
    found = differences(Store(objects, a), Store(objects, b))
    if as_json:
        print_json(found.as_dict())
        return
    for sign, episodes in (("+", found.added), ("-", found.removed)):
        for dataset, episode_id in episodes[:SHOWN]:
            print(f"{sign} {dataset} {episode_id}")
        if len(episodes) > SHOWN:
            print(f"{sign} and {len(episodes) - SHOWN} more; --json lists all")
    for changed in found.changed[:SHOWN]:
        print(
            f"~ {changed.dataset} {changed.episode_id}: "
            + "; ".join(f"{name}: {before!r} -> {after!r}" for name, (before, after) in changed.fields.items())[:300]
        )
    for name, entry in found.datasets.items():
        if entry.episodes[0] != entry.episodes[1] or entry.columns:
            print(f"dataset {name}: {entry.episodes[0]} -> {entry.episodes[1]} episodes, {entry.steps[0]:,} -> {entry.steps[1]:,} steps")
            for column, difference in entry.columns.items():
                print(f"  column {column}: {difference}")
    for (dataset, label_set), labels in found.labels.items():
        print(
            f"labels {label_set} of {dataset}: {labels.episodes[0]} -> {labels.episodes[1]} episodes "
            f"({labels.added} added, {labels.removed} removed, {labels.changed} made anew)"
        )
    print(
        f"{a} -> {b}: {count(len(found.added), 'episode')} added, {len(found.removed)} removed, {len(found.changed)} changed, "
        f"{len(found.rejects_added)} rejects added, {len(found.rejects_removed)} gone"
    )


def tag(address: str, name: str, ref: str | None, as_json: bool) -> None:
    """Name a version."""
    objects = _whole(address)
    version = resolve(objects, ref)
    if version is None:
        raise UsageError(f"{address}: has no version yet that could be named; ingest something first")
    put_tag(objects, name, version.number)
    if as_json:
        print_json({"tag": name, "version": version.number})
    else:
        print(f"{name} is version {version.number}")


def restore(address: str, ref: str, as_json: bool) -> None:
    """Bring an older version's content back as a new one."""
    from dataengine.versions.removal import restore as bring_back

    version = bring_back(_whole(address), ref, shlex.join(["restore", address, ref]))
    if as_json:
        print_json(version.as_dict())
    else:
        print(f"version {version.number} holds what {ref} held: {count(int(version.counts.get('episodes', 0)), 'episode')}")


def rm(address: str, where: str, yes: bool, as_json: bool) -> None:
    """Take episodes out of the next version."""
    from dataengine.versions.removal import plan_removal, remove

    store = open_store(address)
    if store.version is not None and (newest := latest_version(store.objects)) is not None and newest.number != store.version.number:
        raise UsageError(f"{address}: episodes are taken out of the newest version; leave out '@{store.version.number}'")
    plan = plan_removal(store, where)
    for row in plan.episodes[:SHOWN]:
        note(f"- {row['dataset']} {row['episode_id']}")
    if len(plan.episodes) > SHOWN:
        note(f"- and {len(plan.episodes) - SHOWN} more")
    if not plan.episodes:
        note("no episode matches; nothing was done")
    elif confirm(f"Take {count(len(plan.episodes), 'episode')} out of the next version? Older versions keep them.", yes):
        version = remove(store.objects, plan, shlex.join(["rm", address, "--where", where]))
        if as_json:
            print_json({"removed": len(plan.episodes), "version": version.number, "episodes": [row["episode_id"] for row in plan.episodes]})
        else:
            print(f"version {version.number}: {count(len(plan.episodes), 'episode')} removed, {count(int(version.counts.get('episodes', 0)), 'episode')} left")
        return
    else:
        raise typer.Exit(1)
    if as_json:
        print_json({"removed": 0, "version": store.version.number if store.version is not None else None, "episodes": []})


def rm_labels(address: str, label_set: str, where: str | None, yes: bool, as_json: bool) -> None:
    """Take labels of one set out of the next version."""
    from dataengine.versions.removal import plan_label_removal, remove_labels

    store = open_store(_whole(address).url)
    plan = plan_label_removal(store, label_set, where)
    for dataset, labels in plan.labels.items():
        note(f"- {count(labels, 'label')} of {dataset}")
    number = plan.version
    if not plan.count:
        note("no episode with such labels matches; nothing was done")
    elif not confirm(f"Take {count(plan.count, 'label')} of {label_set} out of the next version? Older versions keep them.", yes):
        raise typer.Exit(1)
    else:
        words = ["rm", address, "--labels", label_set, *(["--where", where] if where is not None else [])]
        number = remove_labels(store.objects, plan, shlex.join(words)).number
    if as_json:
        print_json({"labels_removed": plan.count, "label_set": label_set, "version": number, "datasets": plan.labels})
    elif plan.count:
        print(f"version {number}: {count(plan.count, 'label')} of {label_set} removed")


def gc(address: str, forget: list[int], yes: bool, as_json: bool) -> None:
    """Remove what no version needs."""
    from dataengine.versions.garbage import collect, plan_gc

    objects = _whole(address)
    plan = plan_gc(objects, forget)
    total = plan.bytes
    for key, length in plan.objects[:SHOWN]:
        note(f"- {key} ({size(length)})")
    if len(plan.objects) > SHOWN:
        note(f"- and {len(plan.objects) - SHOWN} more")
    for number in plan.forgotten:
        note(f"- version {number}")
    if plan.alive_jobs:
        note(f"running jobs keep what is theirs: {', '.join(plan.alive_jobs)}")
    for job in plan.dead_jobs:
        note(f"job {job} fell silent; it is ended, so that it can never commit again")
    if plan.empty:
        print_json(plan.as_dict()) if as_json else print("nothing to remove")
        return
    if not confirm(
        f"Remove {count(len(plan.objects), 'object')} ({size(total)})" + (f" and forget {len(plan.forgotten)} versions" if plan.forgotten else "") + "?", yes
    ):
        raise typer.Exit(1)
    record = collect(objects, plan, shlex.join(["gc", address, *[f"--forget={number}" for number in forget]]))
    print_json(record) if as_json else print(f"{count(len(plan.objects), 'object')} removed, {size(total)} freed")


def purge(address: str, episodes: list[str], reason: str, yes: bool, as_json: bool) -> None:
    """Erase episodes from every version."""
    from dataengine.versions.purge import plan_purge
    from dataengine.versions.purge import purge as erase

    objects = _whole(address)
    plan = plan_purge(objects, episodes)
    for episode_id in plan.episodes:
        note(f"- {episode_id}")
    if not confirm(f"Erase {count(len(plan.episodes), 'episode')} from every version, for ever?", yes):
        raise typer.Exit(1)
    done = erase(objects, episodes, reason, shlex.join(["purge", address, *episodes]))
    if as_json:
        print_json(done.as_dict())
    else:
        print(f"version {done.version.number}: {count(len(plan.episodes), 'episode')} erased from every version")
