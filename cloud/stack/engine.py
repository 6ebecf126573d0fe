"""Deploys the fleet's engine on Managed Service for Apache Flink, beside the stack of cloud/deploy, and starts it. `cloud/destroy` removes it, too.

The connector is Flink's own for SQL and Kinesis in one jar, flink-sql-connector-aws-kinesis-streams, of the version for Flink 2; Maven Central has it.
An application costs for two units at least, some 160 USD a month.
"""

import argparse
from pathlib import Path

from stack import aws, code, formation
from stack.errors import Failed, told

FLINK = Path(__file__).resolve().parents[1] / "flink"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cloud/flink/deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    aws.add_arguments(parser)
    parser.add_argument("--connector", type=Path, required=True, metavar="JAR", help="the connector to Kinesis")
    parser.add_argument("--parallelism", type=int, metavar="N", help="units of work (default: 1)")
    return parser.parse_args()


def files(connector: Path) -> dict[str, Path]:
    """What the application's zip holds."""
    statements = {f"sql/{path.name}": path for path in (FLINK / "sql").glob("*.sql")}
    return {"main.py": FLINK / "main.py", "lib/connector.jar": connector} | statements


def deploy() -> None:
    given = arguments()
    place = aws.Place.of(given)
    if not given.connector.is_file():
        raise Failed(f"--connector {given.connector}: there is no such file")
    far_side = formation.outputs(place, place.stack)
    if far_side is None:
        raise Failed(f"there is no stack {place.stack} whose streams it could read; cloud/deploy comes first")
    parameters = {
        "CodeBucket": place.code_bucket,
        "CodeKey": code.upload(place, "flink", code.package(files(given.connector))),
        "RawStreamArn": far_side["RawStreamArn"],
        "AnomaliesStreamArn": far_side["AnomaliesStreamArn"],
        "OperatorTopicArn": far_side["OperatorTopicArn"],
    }
    if given.parallelism is not None:
        parameters["Parallelism"] = str(given.parallelism)
    made = formation.apply(place, place.engine_stack, (FLINK / "template.yaml").read_text(), parameters)
    start(place, made["ApplicationName"])
    print(f"application {made['ApplicationName']} runs; findings are on the stream {made['FindingsStreamName']}")


def start(place: aws.Place, application: str) -> None:
    """CloudFormation makes an application and leaves it standing."""
    flink = place.client("kinesisanalyticsv2")
    if flink.describe_application(ApplicationName=application)["ApplicationDetail"]["ApplicationStatus"] == "READY":
        flink.start_application(ApplicationName=application)


if __name__ == "__main__":
    told(deploy)
