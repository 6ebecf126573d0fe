"""Starts the programs of a measurement, watches them through /proc, and ends them by process id."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARIES = ROOT / "target" / "release"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 30
# Any credentials will do: the fake cloud checks only the date of signatures.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "speed", "AWS_SECRET_ACCESS_KEY": "speed", "AWS_EC2_METADATA_DISABLED": "true"}


class Failed(Exception):
    """A measurement whose result is not valid."""


def wait_for(what, condition, seconds):
    """Returns the first true value of `condition`, or fails."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise Failed(f"waited {seconds} s in vain for: {what}")


class Program:
    """A program that prints one line of JSON when it is ready, and ends by SIGTERM."""

    def __init__(self, arguments, log, environment=None):
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{arguments[0]} did not start; see {log.name}")
        self.ready = json.loads(line)

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def written_bytes(self):
        """Bytes that the process has caused to be written to the disk so far."""
        for line in Path(f"/proc/{self.process.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        raise Failed("no write_bytes")

    def memory_mb(self, field):
        """`VmRSS`, or its peak `VmHWM`, in 10^6 bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        raise Failed(f"no {field}")

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def start_load(broker, log, **options):
    arguments = [str(BINARIES / "firmware-sim"), "load", "--broker", broker]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)


def finish_load(load):
    output, _ = load.communicate()
    report = json.loads(output.splitlines()[-1])
    if load.returncode != 0:
        raise Failed(f"the load failed: {report['failure']}")
    return report


class Certificates:
    """A small CA, and certificates of a server and of one client, as both brokers take them."""

    def __init__(self, folder):
        self.folder = folder / "certificates"
        made = [BINARIES / "outrider", "cert", "init", self.folder, "--host", "127.0.0.1", "--device", "load"]
        subprocess.run([str(argument) for argument in made], check=True, stdout=subprocess.DEVNULL)
        self.ca, self.server, self.server_key = (self.folder / name for name in ("ca.pem", "server.pem", "server.key"))
        # How the load reaches a broker with them.
        self.client = {"ca": self.ca, "certificate": self.folder / "devices/load.pem", "key": self.folder / "devices/load.key"}


class Mosquitto:
    """A well-known broker: what passing on a publish to one subscriber costs on this machine, without storing it.

    With `encrypted`, clients come by mutual TLS, and it saves its database each second.
    """

    def __init__(self, encrypted=False):
        if not shutil.which("mosquitto") or not shutil.which("mosquitto_sub"):
            raise Failed("mosquitto and mosquitto_sub are not installed (Debian: mosquitto, mosquitto-clients)")
        self.folder = tempfile.TemporaryDirectory(prefix="mosquitto-speed-", dir=ROOT / "target")
        path = Path(self.folder.name)
        self.log = open(path / "log", "w")
        self.processes = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = path / "mosquitto.conf"
        lines = [f"listener {port} 127.0.0.1", "user root"]
        self.access = {}
        if encrypted:
            made = Certificates(path)
            self.access = made.client
            lines += [f"cafile {made.ca}", f"certfile {made.server}", f"keyfile {made.server_key}"]
            lines += ["require_certificate true", "use_identity_as_username true"]
            lines += ["persistence true", f"persistence_location {path}/", "autosave_interval 1"]
        else:
            lines += ["allow_anonymous true", "persistence false"]
        config.write_text("\n".join(lines) + "\n")
        self.address = f"127.0.0.1:{port}"
        try:
            self.processes.append(subprocess.Popen(["mosquitto", "-c", config], stdout=self.log, stderr=self.log))
            wait_for("mosquitto to listen", lambda: is_open(port), START_SECONDS_MAX)
            subscriber = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", "devices/#"]
            if encrypted:
                access = zip(("--cafile", "--cert", "--key"), self.access.values())
                subscriber += [str(word) for pair in access for word in pair]
            self.processes.append(subprocess.Popen(subscriber, stdout=subprocess.DEVNULL, stderr=self.log))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        self.log.close()
        self.folder.cleanup()

    def cpu_seconds(self):
        """Processor time of the broker alone."""
        return cpu_seconds(self.processes[0].pid)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(pid):
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class Bench:
    """A gateway that forwards to a fake cloud, in a folder of their own."""

    def __init__(self, shards=4, shard_records_per_second="unlimited", record="lines", encrypted=False, lines=0, **sink):
        """`encrypted`: clients come by mutual TLS. `lines`: of files that are there when the gateway starts, each what the load would publish.
        `sink`: more keys of the sink's configuration, with texts as values."""
        self.folder = tempfile.TemporaryDirectory(prefix="outrider-speed-", dir=ROOT / "target")
        path = Path(self.folder.name)
        self.log = open(path / "log", "w")
        self.cloud = self.gateway = None
        self.access = {}
        try:
            self.cloud = Program(
                [BINARIES / "fake-cloud", "--listen", "127.0.0.1:0", "--mode", "count"]
                + ["--stream", f"raw:{shards}", "--stream", "anomalies:1"]
                + ["--shard-records-per-second", shard_records_per_second, "--shard-bytes-per-second", "unlimited"],
                self.log,
            )
            self.cloud_url = f"http://{self.cloud.ready['address']}"
            config = path / "outrider.toml"
            config.write_text(
                f'[gateway]\nid = "speed"\n[store]\npath = "{path}/state"\n[mqtt]\nlisten = "127.0.0.1:0"\n'
                f'[admin]\nlisten = "127.0.0.1:0"\n[[sink]]\nname = "cloud"\ntype = "kinesis"\nregion = "eu-central-1"\n'
                f'endpoint = "{self.cloud_url}"\nraw = "raw"\nanomalies = "anomalies"\nrecord = "{record}"\n'
                + "".join(f'{key} = "{value}"\n' for key, value in sink.items())
                + (self.listener(Certificates(path)) if encrypted else "")
                + (write_lines(path / "lines", lines) if lines else "")
            )
            self.gateway = Program([BINARIES / "outrider", "run", "--config", config], self.log, CREDENTIALS)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in (self.gateway, self.cloud):
            if program:
                program.end()
        self.log.close()
        self.folder.cleanup()

    def listener(self, made):
        self.access = made.client
        return (
            f'[[listener]]\nlisten = "127.0.0.1:0"\ntls_certificate = "{made.server}"\ntls_key = "{made.server_key}"\n'
            f'client_ca = ["{made.ca}"]\n[[right]]\ntopic = "devices/#"\nallow = ["publish"]\n'
        )

    def load(self, **options):
        """Starts the load generator; `finish` has its report."""
        return start_load(self.gateway.ready["listeners"][-1], self.log, **self.access, **options)

    @staticmethod
    def finish(load):
        return finish_load(load)

    def status(self):
        with urllib.request.urlopen(f"http://{self.gateway.ready['admin']}/api/status", timeout=30) as answer:
            return json.loads(answer.read())

    def accepted(self):
        """Readings that are stored."""
        return self.status()["received"]["accepted"]

    def cloud_request(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.cloud_url}/fake/{path}", data=data, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def cloud_stream(self, stream="raw"):
        """The statistics of one stream; None while the cloud is offline."""
        try:
            return self.cloud_request("stats")["streams"][stream]
        except (urllib.error.URLError, ConnectionError):
            return None

    def readings(self):
        stream = self.cloud_stream()
        return stream["readings"] if stream else -1

    def wait_delivered(self, readings, seconds=120):
        """Waits until this many distinct readings are at the cloud, and checks their number and order."""
        wait_for(f"{readings} readings at the cloud", lambda: self.readings() >= readings, seconds)
        stream = self.cloud_stream()
        if stream["readings"] != readings or stream["uncounted"]:
            raise Failed(f"acknowledged {readings}, at the cloud {stream['readings']}")
        if stream["position_regressions"]:
            raise Failed(f"{stream['position_regressions']} readings out of their device's order")
        return stream


def write_lines(folder, lines, devices=50):
    """Makes a file for each device, with what the load generator publishes; returns the configuration that reads them."""
    folder.mkdir()
    for device in (f"d{number:02}" for number in range(devices)):
        with open(folder / f"{device}.log", "w") as file:
            for sequence in range(1, lines // devices + 1):
                line = f'{{"device":"{device}","seq":{sequence},"ts_us":{time.time_ns() // 1000},"temperature":{20 + sequence % 100 / 100},"fw":"'
                file.write(line.ljust(148, "x") + '"}\n')
    return f'[[file]]\npath = "{folder}/*.log"\ntopic = "devices/{{file}}"\n'


def fsync_log(seconds=3.0, commit_bytes=500 * 150):
    """The yardstick: a plain file to which the bytes of 500 readings are repeatedly appended and synced."""
    with tempfile.TemporaryFile(dir=ROOT / "target") as file:
        block, times = os.urandom(commit_bytes), []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - start) * 1e3)
    times.sort()
    return {
        "fsync_ms_p50": times[len(times) // 2],
        "fsync_ms_p99": times[len(times) * 99 // 100],
        "log_readings_per_second": 500 * len(times) / seconds,
    }
