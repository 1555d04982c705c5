"""Importing the package stays light, and what the project needs is pinned."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = ("numpy", "torch", "ray", "polars", "pyarrow", "av", "cv2", "deltalake", "zarr", "h5py", "mcap", "pydantic", "jsonschema", "typer", "obstore")


def loaded_by(statement: str) -> set[str]:
    """Return the top modules that a fresh Python has loaded after a statement."""
    command = f"import sys\n{statement}\nprint(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_dataengine_loads_nothing_heavy() -> None:
    loaded = loaded_by("import dataengine")
    assert "dataengine" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


def test_the_check_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("import numpy")


def requirements(repository: Path) -> list[Requirement]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [requirement for requirement in map(Requirement, listed) if canonicalize_name(requirement.name) != project["name"]]


def pinned(repository: Path) -> dict[str, str]:
    lines = (repository / "infra" / "constraints.txt").read_text().splitlines()
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pins), "each line of infra/constraints.txt must read name==version"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def test_each_requirement_is_pinned_to_a_version_that_fits(repository: Path) -> None:
    pins = pinned(repository)
    faults = []
    for requirement in requirements(repository):
        version = pins.get(canonicalize_name(requirement.name))
        if version is None:
            faults.append(f"{requirement}: is not pinned in infra/constraints.txt")
        elif not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement}: infra/constraints.txt pins {version}")
    assert not faults, "\n".join(faults)
