"""A server of PostgreSQL on a free port, and what asks it."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from programs import ROOT, free_ports, wait_for

# The server refuses to run as root.
SYSTEM_USER = "postgres"
PASSWORD = "correct horse"
Row = tuple[str, ...]


def programs() -> Path:
    """The folder of the newest version that is installed."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))


def documented(section: str) -> list[str]:
    """The statements of a section of the page about stores."""
    text = (ROOT / "docs/STORES.md").read_text()
    part = text.split(f"### {section}\n")[1].split("\n### ")[0]
    return re.findall(r"```sql\n(.*?)```", part, re.DOTALL)


class Database:
    """A cluster in a folder of its own. What it has not synced it forgets when it is killed."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        folder.mkdir()
        folder.parent.chmod(0o755)
        if os.getuid() == 0:
            shutil.chown(folder, SYSTEM_USER)
        self._run("initdb", "--pgdata", str(folder / "data"), "--username", "owner", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        self.configure("unix_socket_directories = ''", "listen_addresses = '127.0.0.1'", f"port = {self.port}", *settings)
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        user = SYSTEM_USER if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        # Its log goes on with the server, so nobody waits for the end of that output.
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            subprocess.run(
                [str(programs() / program), *arguments], stdout=log, stderr=log, check=True, cwd="/", user=user, group=pwd.getpwnam(user).pw_gid
            )

    def configure(self, *settings: str) -> None:
        with (self.folder / "data/postgresql.conf").open("a") as file:
            file.writelines(f"{setting}\n" for setting in settings)

    def allow(self, *lines: str) -> None:
        """Who may come, and how."""
        (self.folder / "data/pg_hba.conf").write_text("".join(f"{line}\n" for line in lines))
        self._control("reload")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "--pgdata", str(self.folder / "data"), *arguments)

    def start(self) -> None:
        self._control("start", "--wait", "--log", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: what is not in its log is gone."""
        self._control("stop", "--mode", mode)

    def end(self) -> None:
        if (self.folder / "data/postmaster.pid").exists():
            self.stop("immediate")

    def sql(self, text: str, database: str = "fleet") -> list[Row]:
        command = ["psql", "-X", "-A", "-t", "-q", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "owner", "-d", database, "-f", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def number(self, text: str) -> int:
        return int(self.sql(text)[0][0])

    def create(self, schema: str) -> None:
        """The tables of the documentation in a schema of their own, for the role that it makes."""
        makes_tables, makes_role = documented("Tables")
        if not self.sql("SELECT 1 FROM pg_roles WHERE rolname = 'outrider'"):
            self.sql(makes_role.split("GRANT")[0])
        grants = "GRANT" + makes_role.split("GRANT")[1]
        self.sql(f"CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO outrider; SET search_path TO {schema}; {makes_tables}; {grants}")

    def own(self, *names: str) -> None:
        """Gives files to the server."""
        for name in names:
            if os.getuid() == 0:
                shutil.chown(self.folder / name, SYSTEM_USER)

    def backends(self) -> Iterator[int]:
        """Processes of the server that serve gateways."""
        return (int(row[0]) for row in self.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'outrider-%'"))

    def wait_for_backend(self) -> None:
        wait_for("a gateway to be connected", lambda: list(self.backends()))
