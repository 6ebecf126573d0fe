"""One function for each measurement; each returns numbers by name."""

import time

from processes import Bench, Failed, Mosquitto, finish_load, fsync_log, start_load, wait_for

PACED_RATE = 2_000
OUTAGE_SECONDS = 15


def idle():
    with Bench() as bench:
        time.sleep(3)
        return {"idle_rss_mb": bench.gateway.memory_mb("VmRSS")}


def saturated(seconds):
    """As many readings as are acknowledged. For delivered readings, the time runs until the last one is at the cloud."""
    with Bench() as bench:
        cpu, started = bench.gateway.cpu_seconds(), time.monotonic()
        report = bench.finish(bench.load(duration=f"{seconds}s"))
        bench.wait_delivered(report["acknowledged"])
        elapsed = time.monotonic() - started
        millions = report["acknowledged"] / 1e6
        return {
            "acknowledged_per_second": report["acknowledged_per_second"],
            "delivered_per_second": report["acknowledged"] / elapsed,
            "cpu_s_per_million": (bench.gateway.cpu_seconds() - cpu) / millions,
            "peak_rss_mb": bench.gateway.memory_mb("VmHWM"),
            "generator_cpu_s_per_million": report["cpu_s"] / millions,
            "cloud_cpu_s_per_million": bench.cloud_request("stats")["cpu_seconds"] / millions,
            "puback_ms_p99": report["puback_ms_p99"],
        }


def files(seconds, lines):
    """Lines of files, beside publishes of the same, each in a gateway of its own."""
    with Bench() as bench:
        published = bench.finish(bench.load(duration=f"{seconds}s"))["acknowledged_per_second"]
    with Bench(lines=lines) as bench:
        # Reading begins before the gateway is ready.
        before, started = bench.accepted(), time.monotonic()
        wait_for(f"{lines} lines", lambda: bench.accepted() >= lines, 120)
        read = (lines - before) / (time.monotonic() - started)
        bench.wait_delivered(lines)
    return {"lines_per_second": read, "ratio": read / published}


def paced(seconds):
    with Bench() as bench:
        cpu = bench.gateway.cpu_seconds()
        report = bench.finish(bench.load(duration=f"{seconds}s", rate=PACED_RATE))
        stream = bench.wait_delivered(report["acknowledged"])
        millions = report["acknowledged"] / 1e6
        latency = stream["since_measured_ms"]
        return {
            "cpu_s_per_million": (bench.gateway.cpu_seconds() - cpu) / millions,
            "peak_rss_mb": bench.gateway.memory_mb("VmHWM"),
            "cloud_ms_p50": latency["p50"],
            "cloud_ms_p99": latency["p99"],
            "puback_ms_p50": report["puback_ms_p50"],
            "puback_ms_p99": report["puback_ms_p99"],
        }


# A vehicle, a busy one, a site: the rate of all devices together, and the number of devices.
VEHICLES = {10: 10, 100: 10, 2_000: 50}


def vehicle(rate, seconds):
    """The cost of a reading for the machine's disk, processor and link, and how long its device waits."""
    with Bench() as bench:
        warm = bench.finish(bench.load(duration="5s", rate=rate, connections=VEHICLES[rate]))
        bench.wait_delivered(warm["acknowledged"])
        gateway = bench.gateway
        cpu, written = gateway.cpu_seconds(), gateway.written_bytes()
        load = bench.load(duration=f"{seconds}s", rate=rate, connections=VEHICLES[rate], first_sequence=1_000_000)
        report = bench.finish(load)
        bench.wait_delivered(warm["acknowledged"] + report["acknowledged"])
        readings = report["acknowledged"]
        return {
            "written_bytes": (gateway.written_bytes() - written) / readings,
            "cpu_ms": (gateway.cpu_seconds() - cpu) * 1e3 / readings,
            "puback_ms_p50": report["puback_ms_p50"],
            "puback_ms_p99": report["puback_ms_p99"],
        }


def many_series(seconds):
    """A thousand devices with ten readings a second in all: the cost of a snapshot of all of them.

    Each publishes every 100 seconds. The first publish of a connection is committed at once; that cost is left out.
    """
    warm = 110
    with Bench() as bench:
        load = bench.load(duration=f"{warm + seconds}s", rate=10, connections=1_000)
        time.sleep(warm)
        before, written = bench.status()["cost"]["readings"], bench.gateway.written_bytes()
        report = bench.finish(load)
        bench.wait_delivered(report["acknowledged"])
        return {"written_bytes": (bench.gateway.written_bytes() - written) / (report["acknowledged"] - before)}


# Settings for a vehicle that pays for its link.
LEAN = {"compression": "zstd", "partition": "gateway", "batch_delay": "5s"}


def link(rate, seconds):
    """The cost of a reading for the link, in bytes of request bodies: with the defaults, and with settings for a paid link."""
    result = {}
    for name, keys in (("default", {}), ("lean", LEAN)):
        with Bench(**keys) as bench:
            report = bench.finish(bench.load(duration=f"{seconds}s", rate=rate, connections=VEHICLES[rate]))
            bench.wait_delivered(report["acknowledged"])
            streams = bench.cloud_request("stats")["streams"].values()
            result[f"{name}_body_bytes"] = sum(stream["body_bytes"] for stream in streams) / report["acknowledged"]
    return result


def mosquitto(rate, seconds):
    """The same load, passed on to one subscriber and not stored."""
    with Mosquitto() as broker:
        finish_load(start_load(broker.address, broker.log, duration="5s", rate=rate, connections=VEHICLES[rate]))
        cpu = broker.cpu_seconds()
        load = start_load(broker.address, broker.log, duration=f"{seconds}s", rate=rate, connections=VEHICLES[rate])
        report = finish_load(load)
        return {
            "cpu_ms": (broker.cpu_seconds() - cpu) * 1e3 / report["acknowledged"],
            "puback_ms_p50": report["puback_ms_p50"],
            "puback_ms_p99": report["puback_ms_p99"],
        }


def encrypted(seconds, rate=PACED_RATE):
    """The cost of a reading by mutual TLS beside that of one in the clear, and beside Mosquitto with TLS and its database."""
    result = {}
    for name, encrypts in (("plain", False), ("tls", True)):
        with Bench(encrypted=encrypts) as bench:
            warm = bench.finish(bench.load(duration="5s", rate=rate, connections=VEHICLES[rate]))
            cpu = bench.gateway.cpu_seconds()
            load = bench.load(duration=f"{seconds}s", rate=rate, connections=VEHICLES[rate], first_sequence=1_000_000)
            report = bench.finish(load)
            bench.wait_delivered(warm["acknowledged"] + report["acknowledged"])
            result[f"{name}_cpu_ms"] = (bench.gateway.cpu_seconds() - cpu) * 1e3 / report["acknowledged"]
            result[f"{name}_puback_ms_p99"] = report["puback_ms_p99"]
    result["cpu_ratio"] = result["tls_cpu_ms"] / result["plain_cpu_ms"]
    with Mosquitto(encrypted=True) as broker:
        reach = broker.access
        finish_load(start_load(broker.address, broker.log, duration="5s", rate=rate, connections=VEHICLES[rate], **reach))
        cpu = broker.cpu_seconds()
        load = start_load(broker.address, broker.log, duration=f"{seconds}s", rate=rate, connections=VEHICLES[rate], **reach)
        report = finish_load(load)
        result["mosquitto_cpu_ms"] = (broker.cpu_seconds() - cpu) * 1e3 / report["acknowledged"]
        result["mosquitto_puback_ms_p99"] = report["puback_ms_p99"]
    return result


def waiting_client(seconds):
    """One client that waits for each PUBACK before it publishes again."""
    with Bench() as bench:
        report = bench.finish(bench.load(duration=f"{seconds}s", connections=1, window=1))
        return {"acknowledged_per_second": report["acknowledged_per_second"]}


def alerts(seconds, rate=PACED_RATE, connections=50):
    """Occasional spikes once the detectors are warm, and a subscriber that waits for their alerts."""
    with Bench() as bench:
        load = bench.load(duration=f"{65 + seconds}s", rate=rate, connections=connections, alerts=True)
        report = bench.finish(load)
        spikes = report["spikes"]
        if spikes["alerted"] != spikes["made"]:
            raise Failed(f"{spikes['made']} wild readings, {spikes['alerted']} alerts")
        return {"alert_ms_p50": spikes["alert_ms_p50"], "alert_ms_p99": spikes["alert_ms_p99"], "spikes": spikes["made"]}


def catch_up(readings):
    """An outage with everything buffered; then the cloud is back, and no new readings arrive."""
    with Bench() as bench:
        bench.finish(bench.load(count=1_000))
        bench.wait_delivered(1_000)
        # Long enough at half the floor; the rest of it is waited for when the load has ended.
        outage_seconds = readings / 35_000 + 5
        bench.cloud_request("offline", {"seconds": outage_seconds})
        report = bench.finish(bench.load(count=readings, first_sequence=1_000_000))
        wait_for("the cloud to come back", lambda: bench.cloud_stream() is not None, outage_seconds + 5)
        before, since = bench.readings(), time.monotonic()
        cpu = bench.gateway.cpu_seconds()
        bench.wait_delivered(report["acknowledged"] + 1_000)
        drained = report["acknowledged"] + 1_000 - before
        return {
            "catch_up_per_second": drained / (time.monotonic() - since),
            "catch_up_cpu_s_per_million": (bench.gateway.cpu_seconds() - cpu) / (drained / 1e6),
            "catch_up_peak_rss_mb": bench.gateway.memory_mb("VmHWM"),
        }


def limited_shards():
    """Four shards with 1,000 records a second each, one reading per record, and an outage during a steady load.

    The ideal: the hottest shard works at its limit from the first moment on, and wastes nothing on failed attempts.
    """
    with Bench(shards=4, shard_records_per_second=1_000, record="single") as bench:
        load = bench.load(duration="110s", rate=PACED_RATE)
        start = time.monotonic()
        time.sleep(8)
        shares = [shard["records"] for shard in bench.cloud_stream()["shards"]]
        hottest = PACED_RATE * max(shares) / sum(shares)
        bench.cloud_request("offline", {"seconds": OUTAGE_SECONDS})
        time.sleep(OUTAGE_SECONDS - 2)
        wait_for("the cloud to come back", lambda: bench.cloud_stream() is not None, 10)
        back = time.monotonic()

        def is_caught_up():
            published = PACED_RATE * (time.monotonic() - start)
            return bench.readings() >= published - PACED_RATE * 0.3

        wait_for("the backlog to be gone", is_caught_up, 80)
        took = time.monotonic() - back
        report = bench.finish(load)
        bench.wait_delivered(report["acknowledged"])
        ideal = OUTAGE_SECONDS * hottest / (1_000 - hottest)
        return {"shards_catch_up_ratio": took / ideal, "shards_catch_up_s": took, "shards_ideal_s": ideal}


def throttled_records(seconds):
    """A tenth of all records is refused, whatever the rate: the part of the load that is at the cloud when the load ends."""
    with Bench() as bench:
        bench.cloud_request("faults", {"record_throttled": 0.1})
        report = bench.finish(bench.load(duration=f"{seconds}s", rate=10 * PACED_RATE))
        there = bench.readings()
        stream = bench.wait_delivered(report["acknowledged"])
        if stream["duplicates"]:
            raise Failed(f"{stream['duplicates']} duplicates")
        return {"goodput": there / report["published"]}


def yardstick():
    return fsync_log()
