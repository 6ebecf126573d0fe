"""A shell in which the blocks of one page run, one after the other: in an empty folder, on a network of its own."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

BLOCK_SECONDS_MAX = 180
READY_SECONDS_MAX = 60
GATEWAY_IN_BACKGROUND = re.compile(r"^\s*outrider run\b.*&\s*$", re.MULTILINE)


class Failed(Exception):
    pass


class Session:
    def __init__(self, programs):
        self.folder = Path(tempfile.mkdtemp(prefix="outrider-book-"))
        self.notes = Path(tempfile.mkdtemp(prefix="outrider-book-notes-"))
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(self.folder), "LANG": "C.UTF-8", "TERM": "dumb",
            "TMPDIR": str(self.notes),
        }
        # So that pages may have the usual ports, and nothing that they start is reached from elsewhere or writes elsewhere.
        apart = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        self.shell = subprocess.Popen(
            [*apart, "bash", "--noprofile", "--norc"], cwd=self.folder, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.count = 0
        self.tell(f"set -e; ip link set lo up; for own in {self.folder} {self.notes}; do mount --bind $own $own; done")
        self.tell(f"mount -o remount,bind,ro /; cd {self.folder}")

    def tell(self, line):
        self.shell.stdin.write(line + "\n")
        self.shell.stdin.flush()

    def save(self, name, text):
        path = self.folder / name
        assert path.resolve().is_relative_to(self.folder.resolve()), name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, text):
        """What a block prints. A command that fails ends it, as `set -e` says."""
        self.count += 1
        script, output, done = (self.notes / f"{self.count}.{kind}" for kind in ("sh", "out", "done"))
        script.write_text(text)
        self.tell(f"source {script} > {output} 2>&1 < /dev/null; touch {done}")
        self.wait_until(done.exists, BLOCK_SECONDS_MAX, output, "does not end")
        if GATEWAY_IN_BACKGROUND.search(text):
            self.wait_until(lambda: '"event":"ready"' in output.read_text(), READY_SECONDS_MAX, output, "no gateway is ready")
        return output.read_text()

    def wait_until(self, is_done, seconds, output, trouble):
        deadline = time.monotonic() + seconds
        while not is_done():
            said = output.read_text() if output.exists() else ""
            if self.shell.poll() is not None and not is_done():
                raise Failed(f"a command fails:\n{said}{self.logs()}")
            if time.monotonic() > deadline:
                raise Failed(f"{trouble} within {seconds} s:\n{said}{self.logs()}")
            time.sleep(0.02)

    def logs(self):
        return "".join(f"--- {log.name}:\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))

    def end(self):
        """Ends whatever the page has left running: all of it is in the shell's session."""
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.shell.wait()
        self.shell.stdin.close()
        self.shell.stdout.close()
        for folder in (self.folder, self.notes):
            shutil.rmtree(folder, ignore_errors=True)


def difference(expected, printed):
    """None if what was printed is as the page shows it: `...` is anything within a line, a line of nothing else is any lines."""
    pattern = ""
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n"
    whole = printed if printed.endswith("\n") or not printed else printed + "\n"
    if re.fullmatch(pattern, whole):
        return None
    return f"the page shows\n{expected}and the command printed\n{whole}"
