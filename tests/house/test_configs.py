"""Each configuration in the project is read by the model that owns it; the files of infra/ are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dataengine.core.config import read_yaml
from dataengine.schema.descriptions import descriptions
from dataengine.schema.embodiments import embodiments


def test_every_config_is_read(repository: Path) -> None:
    owners = {"embodiments": set(embodiments()), "datasets": set(descriptions())}
    for path in sorted((repository / "configs").rglob("*.yaml")):
        assert isinstance(read_yaml(path), dict)
        folder = path.relative_to(repository / "configs").parts[0]
        if folder in owners:
            assert path.stem in owners[folder], path


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "kuberay.yaml"])
def test_manifests_parse(repository: Path, name: str) -> None:
    documents = list(yaml.safe_load_all((repository / "infra" / name).read_text()))
    assert documents
    assert all(isinstance(document, dict) for document in documents)


def test_ray_version_is_the_pinned_one(repository: Path) -> None:
    (pin,) = [line.partition("==")[2] for line in (repository / "infra" / "constraints.txt").read_text().splitlines() if line.startswith("ray==")]
    (job,) = yaml.safe_load_all((repository / "infra" / "kuberay.yaml").read_text())
    assert job["kind"] == "RayJob"
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pin
    assert job["spec"]["entrypoint"].startswith("dataengine ingest ")


def test_the_image_of_the_manifests_is_the_one_that_is_built(repository: Path) -> None:
    dockerfile = (repository / "infra" / "Dockerfile").read_text()
    assert "FROM python:3.11-slim" in dockerfile
    assert "--constraint infra/constraints.txt" in dockerfile
    cluster = yaml.safe_load((repository / "infra" / "ray-cluster.yaml").read_text())
    (job,) = yaml.safe_load_all((repository / "infra" / "kuberay.yaml").read_text())
    spec = job["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    assert images == {cluster["docker"]["image"]}
