"""What can go wrong, in words that say what to do."""

import sys
from collections.abc import Callable

import botocore.exceptions


class Failed(Exception):
    """Something that is to be told without a trace."""


def told(command: Callable[[], None]) -> None:
    """Runs a command, and ends the program with one line if it fails."""
    try:
        command()
    except Failed as error:
        sys.exit(f"cloud: {error}")
    except botocore.exceptions.ClientError as error:
        sys.exit(f"cloud: AWS refused {error.operation_name}: {error.response['Error'].get('Message', error)}")
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        sys.exit("cloud: no AWS credentials found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    except botocore.exceptions.NoRegionError:
        sys.exit("cloud: no region; give --region, or set AWS_REGION")
    except botocore.exceptions.BotoCoreError as error:
        sys.exit(f"cloud: {error}")
