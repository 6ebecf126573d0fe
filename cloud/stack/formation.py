"""CloudFormation: makes, changes and removes a stack, and says which resource failed and why."""

import time
from typing import Any

import botocore.exceptions

from stack.aws import Place
from stack.errors import Failed

POLL_SECONDS = 3
# What a stack ends in when all went well.
GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")


def describe(place: Place, stack: str) -> dict[str, Any] | None:
    """What CloudFormation says of a stack, or nothing if there is none."""
    try:
        return place.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except botocore.exceptions.ClientError as error:
        if "does not exist" in error.response["Error"].get("Message", ""):
            return None
        raise


def apply(place: Place, stack: str, template: str, parameters: dict[str, str]) -> dict[str, str]:
    """Makes a stack, or changes it where it is there already; what is not given stays as it was. Returns its outputs."""
    formation = place.client("cloudformation")
    there = describe(place, stack)
    if there is not None and there["StackStatus"] == "ROLLBACK_COMPLETE":
        raise Failed(f"the stack {stack} failed when it was made, and has to go first: cloud/destroy --stack {place.stack}")
    request = {
        "StackName": stack,
        "TemplateBody": template,
        "Parameters": _parameters(formation, template, parameters, there),
        "Capabilities": ["CAPABILITY_IAM"],
    }
    try:
        if there is None:
            formation.create_stack(**request)
        else:
            formation.update_stack(**request)
    except botocore.exceptions.ClientError as error:
        if "No updates are to be performed" not in error.response["Error"].get("Message", ""):
            raise
    return _outputs(_wait(place, stack))


def remove(place: Place, stack: str) -> bool:
    """Removes a stack; false if there is none."""
    there = describe(place, stack)
    if there is None:
        return False
    place.client("cloudformation").delete_stack(StackName=there["StackId"])
    _wait(place, there["StackId"])
    return True


def outputs(place: Place, stack: str) -> dict[str, str] | None:
    there = describe(place, stack)
    return None if there is None else _outputs(there)


def _outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _parameters(formation: Any, template: str, given: dict[str, str], there: dict[str, Any] | None) -> list[dict[str, Any]]:
    known = {parameter["ParameterKey"] for parameter in (there or {}).get("Parameters", [])}
    wanted = {parameter["ParameterKey"] for parameter in formation.validate_template(TemplateBody=template)["Parameters"]}
    set_now = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
    return set_now + [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted((known & wanted) - given.keys())]


def _wait(place: Place, stack: str) -> dict[str, Any]:
    """Waits until a stack stands still, and fails with the reasons if it is not as it was to be."""
    while True:
        there = describe(place, stack)
        status = "DELETE_COMPLETE" if there is None else there["StackStatus"]
        if not status.endswith("_IN_PROGRESS"):
            break
        time.sleep(POLL_SECONDS)
    if status not in GOOD:
        raise Failed(f"the stack {stack} is {status}:\n" + "\n".join(_reasons(place, stack)))
    return there or {}


def _reasons(place: Place, stack: str) -> list[str]:
    """The failures of the last operation, the first one first; those that only followed from others are left out."""
    reasons = []
    for event in place.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]:
        reason = event.get("ResourceStatusReason", "")
        if reason == "User Initiated":
            break
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            reasons.append(f"  {event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
    return reasons[::-1]
