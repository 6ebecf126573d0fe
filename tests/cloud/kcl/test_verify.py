"""The command as those who run it see it, where it cannot look."""

import os
import subprocess
import sys
import tempfile
import unittest

from client_library import CONSUMERS
from programs import ENVIRONMENT, free_ports
from report import UNKNOWN


class Command(unittest.TestCase):
    def run_it(self, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Nothing of this machine says what region it is, and nobody listens at the endpoint."""
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-kcl-"))
        known = {name: value for name, value in (os.environ | ENVIRONMENT).items() if name not in ("AWS_REGION", "AWS_DEFAULT_REGION")}
        nowhere = {"AWS_CONFIG_FILE": f"{folder}/none", "AWS_MAX_ATTEMPTS": "1"}
        command = [sys.executable, str(CONSUMERS / "verify.py"), "--seen", f"{folder}/seen", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=known | nowhere | more)

    def test_what_cannot_be_looked_at_is_no_alarm(self) -> None:
        done = self.run_it("--streams", "fleet")
        self.assertEqual((done.returncode, done.stdout), (UNKNOWN, ""))
        self.assertIn("verify: nothing can be told: You must specify a region.", done.stderr)

    def test_the_region_may_come_as_all_other_programs_take_it(self) -> None:
        done = self.run_it("--streams", "fleet", "--endpoint", f"http://127.0.0.1:{free_ports(1)[0]}", AWS_REGION="eu-central-1")
        self.assertEqual((done.returncode, done.stdout), (UNKNOWN, ""))
        self.assertIn("verify: nothing can be told: Could not connect", done.stderr)

    def test_where_nothing_was_seen_yet_nothing_is_known(self) -> None:
        done = self.run_it("--region", "eu-central-1")
        self.assertEqual((done.returncode, done.stderr), (UNKNOWN, ""))
        self.assertIn("No consumer has written anything here", done.stdout)


if __name__ == "__main__":
    unittest.main()
