"""Package layout: `schemas/` and `configs/` stand beside the code and travel as package data of `dataengine`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["dataengine", "dataengine.*", "pipelines", "pipelines.*"]), "dataengine.schemas", "dataengine.configs"],
    package_dir={"dataengine.schemas": "schemas", "dataengine.configs": "configs"},
    package_data={"dataengine.schemas": ["**/*"], "dataengine.configs": ["**/*.yaml"]},
)
