"""A gateway with a sink that is down, a Prometheus that scrapes it, and every expression of the alerts and of the dashboard."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ["OUTRIDER_BINARIES"])
DEADLINE_S = 60

CONFIG = """
[gateway]
id = "truck-1"
shutdown_grace = "0s"
[store]
path = "state"
[mqtt]
listen = "127.0.0.1:0"
[[listener]]
name = "vehicles"
listen = "127.0.0.1:0"
tls_certificate = "certificates/server.pem"
tls_key = "certificates/server.key"
client_ca = "certificates/ca.pem"
[admin]
listen = "127.0.0.1:0"
[[sink]]
name = "archive"
type = "archive"
[[sink]]
name = "cloud"
type = "http"
url = "http://127.0.0.1:1/"
streams = ["raw", "anomalies"]
[[rule]]
name = "hot"
when = "engine_temperature > 200"
alert = "critical"
"""

PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: outrider
    static_configs: [{{targets: ["{admin}"]}}]
"""

# What cannot have a value here, because nothing of the kind has happened: an expression that compares is empty then, and may be.
ABOUT_TROUBLE = ("==", "!=", "<", ">")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, found):
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            result = found()
        except OSError:
            result = None
        if result:
            return result
        time.sleep(0.2)
    sys.exit(f"tests/prometheus: waited in vain for {what}")


def get(url):
    with urllib.request.urlopen(url, timeout=5) as reply:
        return reply.read().decode()


def ask(prometheus, path, **query):
    try:
        return json.loads(get(f"http://{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"))
    except urllib.error.HTTPError as error:
        # As long as it starts it says so, in words.
        if error.code == 503:
            raise
        return json.loads(error.read())


def expressions_of_the_dashboard():
    dashboard = json.loads((ROOT / "config/grafana/outrider.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            # As Grafana fills them in.
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            yield panel["title"], expression


def check_expressions(prometheus, rules):
    wrong = []
    alerts = [(rule["name"], rule["query"]) for group in rules for rule in group["rules"]]
    shown = list(expressions_of_the_dashboard())
    for name, expression in alerts + shown:
        answer = ask(prometheus, "query", query=expression)
        if answer["status"] != "success":
            wrong.append(f"{name}: {answer['error']}")
        elif not answer["data"]["result"] and not any(sign in expression.replace("=~", "") for sign in ABOUT_TROUBLE):
            wrong.append(f"{name}: nothing comes of {expression}")
    return wrong, len(alerts), len(shown)


def main():
    with tempfile.TemporaryDirectory() as folder, open(Path(folder, "log"), "w+") as log:
        folder = Path(folder)
        (folder / "outrider.toml").write_text(CONFIG)
        subprocess.run([PROGRAMS / "outrider", "cert", "init", "certificates"], cwd=folder, check=True, stdout=log)
        gateway = subprocess.Popen(
            [PROGRAMS / "outrider", "run", "--config", "outrider.toml"], cwd=folder, stdout=subprocess.PIPE, stderr=log
        )
        started = [gateway]
        try:
            ready = json.loads(gateway.stdout.readline())
            admin = ready["admin"]
            subprocess.run(
                [PROGRAMS / "firmware-sim", "fleet", "--broker", ready["mqtt"], "--vehicles", "3", "--duration", "3s"],
                check=True,
                stdout=log,
                stderr=log,
            )
            lint = subprocess.run(["promtool", "check", "metrics"], input=get(f"http://{admin}/metrics"), text=True, capture_output=True)
            if lint.returncode or lint.stderr:
                sys.exit(f"tests/prometheus: promtool check metrics says\n{lint.stdout}{lint.stderr}")
            prometheus = f"127.0.0.1:{free_port()}"
            rules = ROOT / "config/prometheus/outrider.rules.yml"
            (folder / "prometheus.yml").write_text(PROMETHEUS.format(rules=rules, admin=admin))
            started.append(
                subprocess.Popen(
                    ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={prometheus}"],
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                )
            )
            up = 'count_over_time(up{job="outrider"}[1m]) > 4 and up == 1'
            wait_for("scrapes", lambda: ask(prometheus, "query", query=up)["data"]["result"])

            def pending():
                alerts = ask(prometheus, "alerts")["data"]["alerts"]
                return {(alert["labels"]["alertname"], alert["labels"].get("sink")) for alert in alerts}

            wait_for("the alert of the sink that is down", lambda: ("OutriderSinkFailing", "cloud") in pending())
            if ("OutriderSinkFailing", "archive") in pending():
                sys.exit("tests/prometheus: the archive works, and there is an alert of it")
            groups = ask(prometheus, "rules")["data"]["groups"]
            unhealthy = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]
            wrong, alerts, shown = check_expressions(prometheus, groups)
            if unhealthy or wrong:
                sys.exit("tests/prometheus: " + "\n".join(unhealthy + wrong))
            control = ask(prometheus, "query", query="outrider_no_such_metric")["data"]["result"]
            assert control == [], "a metric that there is not has no value"
            print(f"prometheus: {alerts} alerts and {shown} expressions of the dashboard hold against a real gateway")
        except Exception:
            log.seek(0)
            print(log.read()[-4000:], file=sys.stderr)
            raise
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(20)


if __name__ == "__main__":
    main()
