"""Reads the templates, whose functions are tags of YAML."""

from pathlib import Path
from typing import Any

import yaml

CLOUD = Path(__file__).resolve().parents[2] / "cloud"


class _Loader(yaml.SafeLoader):
    """Knows `!Ref` and the like, and keeps what they are applied to."""


def _function(loader: _Loader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _function)


def load(name: str = "template.yaml") -> dict[str, Any]:
    return yaml.load((CLOUD / name).read_text(), _Loader)


def resources(kind: str, name: str = "template.yaml") -> dict[str, dict[str, Any]]:
    """The properties of all resources of a type, by their names in the template."""
    found = load(name)["Resources"].items()
    return {logical: resource["Properties"] for logical, resource in found if resource["Type"] == kind}


def queries() -> dict[str, str]:
    """The named queries, by name."""
    return {query["Name"]: query["QueryString"] for query in resources("AWS::Athena::NamedQuery").values()}
