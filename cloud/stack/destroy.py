"""Removes the far side of Outrider. The bucket with readings and anomalies stays, unless --delete-data is given."""

import argparse

from stack import aws, code, formation
from stack.errors import told


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cloud/destroy", description=__doc__)
    aws.add_arguments(parser)
    parser.add_argument("--delete-data", action="store_true", help="delete the bucket with all readings, too; nobody can bring them back")
    return parser.parse_args()


def destroy() -> None:
    given = arguments()
    place = aws.Place.of(given)
    # They read the streams of the other one.
    for beside in (place.engine_stack, place.prediction_stack):
        if formation.remove(place, beside):
            print(f"the stack {beside} is removed")
    bucket = (formation.outputs(place, place.stack) or {}).get("BucketName")
    removed = formation.remove(place, place.stack)
    print(f"the stack {place.stack} is removed" if removed else f"there is no stack {place.stack}")
    code.remove_bucket(place, place.code_bucket)
    if bucket and given.delete_data:
        code.remove_bucket(place, bucket)
        print(f"the bucket {bucket} is removed with all its files")
    elif bucket:
        print(f"the bucket {bucket} is kept, with all readings; --delete-data would have removed it")


if __name__ == "__main__":
    told(destroy)
