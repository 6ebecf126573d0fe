"""Deploys the far side of Outrider, or brings it up to date. Prints what goes into the gateway's configuration.

What is not given stays as it was when the stack is there already. Costs begin with the deployment: see cloud/README.md.
"""

import argparse
from pathlib import Path

from stack import aws, code, emulator, formation
from stack.errors import Failed, told

CLOUD = Path(__file__).resolve().parents[1]
# Glacier Instant Retrieval is paid for this long, and S3 refuses to move a file earlier.
COLD_DAYS_MIN = 90


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cloud/deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    aws.add_arguments(parser)
    parser.add_argument("--shards", type=int, metavar="N", help="shards of the raw stream, 1 MiB/s each; 0 is on demand (default: 1)")
    parser.add_argument("--retention-hours", type=int, metavar="N", help="how long the streams keep a record (default: 24)")
    parser.add_argument("--cold-after-days", type=int, metavar="N", help="when files go to Glacier Instant Retrieval (default: 90)")
    parser.add_argument("--deep-after-days", type=int, metavar="N", help="when files go to Glacier Deep Archive (default: 365)")
    parser.add_argument("--fleet-email", metavar="ADDRESS", help="gets every alert, once the address has been confirmed")
    parser.add_argument("--operator-email", metavar="ADDRESS", help="gets the alarms of the stack itself, once it has been confirmed")
    return parser.parse_args()


def parameters(given: argparse.Namespace) -> dict[str, str]:
    """What was asked for, as the template names it."""
    names = {
        "ShardCount": given.shards,
        "RetentionHours": given.retention_hours,
        "ColdAfterDays": given.cold_after_days,
        "DeepAfterDays": given.deep_after_days,
        "FleetEmail": given.fleet_email,
        "OperatorEmail": given.operator_email,
    }
    return {name: str(value) for name, value in names.items() if value is not None}


def deploy() -> None:
    given = arguments()
    cold, deep = given.cold_after_days or 90, given.deep_after_days or 365
    if deep - cold < COLD_DAYS_MIN:
        raise Failed(
            f"--deep-after-days {deep}: files stay for at least {COLD_DAYS_MIN} days in Glacier Instant Retrieval, so at least {cold + COLD_DAYS_MIN}"
        )
    place = aws.Place.of(given)
    files = {f"alerts/{path.name}": path for path in (CLOUD / "alerts").glob("*.py")}
    uploaded = {"CodeBucket": place.code_bucket, "AlertsCodeKey": code.upload(place, "alerts", code.package(files))}
    template = (CLOUD / "template.yaml").read_text()
    if given.endpoint:
        template, left_out = emulator.adapted(place.client("cloudformation"), template)
        print(f"# Left out, because the endpoint does not know them: {', '.join(sorted(left_out)) or 'nothing'}")
    print(report(formation.apply(place, place.stack, template, parameters(given) | uploaded), place))


def report(outputs: dict[str, str], place: aws.Place) -> str:
    """The lines for the gateway's configuration, and the names of the rest."""
    credentials = place.client("iot").describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"]
    endpoint = f'endpoint = "{place.endpoint}"\n' if place.endpoint else ""
    return f"""# Into the configuration of each gateway:
[[sink]]
name = "cloud"
type = "kinesis"
region = "{outputs["Region"]}"
streams = {{ raw = "{outputs["RawStreamName"]}", anomalies = "{outputs["AnomaliesStreamName"]}" }}
{endpoint}
# A truck that has a certificate of AWS IoT and no keys, beside that:
# [aws]
# credentials_endpoint = "{credentials}"
# role_alias = "{outputs["RoleAliasName"]}"
# thing = "truck-0042"
# certificate = "certificates/device.pem"
# key = "certificates/device.key"

# Files     s3://{outputs["BucketName"]}
# Queries   database {outputs["DatabaseName"]}, workgroup {outputs["WorkGroupName"]}
# Drivers   {outputs["DriverTopicArn"]}
# Fleet     {outputs["FleetTopicArn"]}
# Operator  {outputs["OperatorTopicArn"]}
# Alerts    table {outputs["LatestAlertsTable"]}, failures {outputs["FailureQueueUrl"]}
# Trucks    policy {outputs["TruckPolicyName"]}, thing group {outputs["TruckGroupName"]}"""


if __name__ == "__main__":
    told(deploy)
