"""Deploys what asks a model about each vehicle, beside the stack of cloud/deploy: a job on Glue, a table, a function. `cloud/destroy` removes it, too.

The job is not started: it costs while it runs, some 0.22 USD an hour for two workers of G.025X. `aws glue start-job-run --job-name NAME` does that.
"""

import argparse
from pathlib import Path

from stack import aws, code, emulator, formation
from stack.errors import Failed, told

PREDICT = Path(__file__).resolve().parents[1] / "predict"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cloud/predict/deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    aws.add_arguments(parser)
    parser.add_argument("--model", required=True, metavar="NAME", help="the endpoint of SageMaker that is asked")
    parser.add_argument("--model-url", metavar="URL", help="another address for it, for emulators")
    parser.add_argument("--vehicles", type=Path, required=True, metavar="FILE", help="what is known of the vehicles: lines of JSON, each with the field device")
    parser.add_argument("--keep-days", type=int, metavar="N", help="how long an item is kept after its vehicle's last reading (default: 7)")
    return parser.parse_args()


def deploy() -> None:
    given = arguments()
    place = aws.Place.of(given)
    if not given.vehicles.is_file():
        raise Failed(f"--vehicles {given.vehicles}: there is no such file")
    far_side = formation.outputs(place, place.stack)
    if far_side is None:
        raise Failed(f"there is no stack {place.stack} whose streams it could read; cloud/deploy comes first")
    answers = {f"answers/{path.name}": path for path in (PREDICT / "answers").glob("*.py")}
    parts = {name: code.upload_file(place, PREDICT / "etl" / name) for name in ("main.py", "process.py", "merging.py")}
    parameters = {
        "CodeBucket": place.code_bucket,
        "AnswersCodeKey": code.upload(place, "answers", code.package(answers)),
        "JobScript": parts["main.py"],
        "JobFiles": ",".join([parts["process.py"], parts["merging.py"]]),
        "Vehicles": code.upload_file(place, given.vehicles),
        "RawStreamArn": far_side["RawStreamArn"],
        "Endpoint": given.model,
    }
    optional = {"ModelUrl": given.model_url, "KeepDays": given.keep_days}
    parameters |= {name: str(value) for name, value in optional.items() if value is not None}
    template = (PREDICT / "template.yaml").read_text()
    if given.endpoint:
        template, left_out = emulator.adapted(place.client("cloudformation"), template)
        print(f"# Left out, because the endpoint does not know them: {', '.join(sorted(left_out)) or 'nothing'}")
    made = formation.apply(place, place.prediction_stack, template, parameters)
    print(f"# Items     table {made['StatesTable']}\n# Failures  {made['FailureQueueUrl']}\n# Start     aws glue start-job-run --job-name {made['JobName']}")


if __name__ == "__main__":
    told(deploy)
