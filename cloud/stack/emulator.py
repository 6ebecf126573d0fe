"""Emulators of AWS know fewer types of resources than AWS does. What they do not know is left out of the template for them."""

import re
from typing import Any

import botocore.exceptions

UNKNOWN = re.compile(r"Unrecognized resource types: \[([^\]]*)\]")
# A resource is a name that is indented by two spaces, and all that is indented further.
RESOURCE = re.compile(r"^  (\w+):\n    Type: (\S+)\n(?:    .*\n|\n)*", re.MULTILINE)


def adapted(formation: Any, template: str) -> tuple[str, set[str]]:
    """The template without the types that the emulator says it does not know, and these."""
    try:
        formation.validate_template(TemplateBody=template)
        return template, set()
    except botocore.exceptions.ClientError as error:
        found = UNKNOWN.search(error.response["Error"].get("Message", ""))
        if found is None:
            raise
    types = set(found[1].split(", "))
    return without(template, types), types


def without(template: str, types: set[str]) -> str:
    """The template without the resources of these types, to which no other one may refer."""
    return RESOURCE.sub(lambda resource: "" if resource[2] in types else resource[0], template)
