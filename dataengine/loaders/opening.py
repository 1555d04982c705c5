"""Opens the stores of a mixture and numbers what they hold."""

from __future__ import annotations

from collections.abc import Sequence

from dataengine.core.cached_objects import CacheOptions
from dataengine.core.errors import UsageError
from dataengine.loaders.episode_listing import table_of_episodes
from dataengine.loaders.mixture import Mixture
from dataengine.loaders.opened import Opened, Part
from dataengine.store.refs import parse_address
from dataengine.store.store import Store, open_store


def open_mixture(mixture: Mixture, label_sets: Sequence[str] = (), cache: CacheOptions | None = None) -> Opened:
    """Open the stores of a mixture and number their samples; what was found once is taken from the cache folder.

    Args:
        mixture: the sources.
        label_sets: those whose labels are read, by name.
        cache: where blocks of remote stores are held; None asks the store each time.

    Raises:
        NotAStore, VersionNotFound: an address names nothing.
        UsageError: a dataset is not there, or a condition is none.
    """
    parts = []
    stores: dict[tuple[str, str], Store] = {}  # opened once for all sources that name it
    for number, source in enumerate(mixture.listed):
        parsed = parse_address(source.address)
        key = source.address.rpartition("#")[0] if parsed.dataset else source.address, str(sorted(source.storage_options.items()))
        if key not in stores:
            stores[key] = open_store(key[0], source.storage_options or None)
        store = stores[key]
        names = [parsed.dataset] if parsed.dataset is not None else store.datasets()
        found = []
        for name in names:
            table, folder = table_of_episodes(store, name, source.where, source.where_steps, label_sets)
            version = None if store.version is None or store.open else store.version.number
            if len(table):
                found.append(Part(number, store.objects.url, name, version, str(folder), tuple(label_sets), dict(source.columns), dict(source.storage_options)))
        if not found:
            known = ", ".join(store.datasets()) or "none"
            raise UsageError(f"{source.address}: holds no episode{' under its conditions' if source.where else ''}; datasets: {known}")
        parts += found
    return Opened(tuple(parts), cache)
