"""Two brokers, of which one is the controller, with all ways to connect: plain through links, with passwords, by TLS, with certificates."""

import atexit
import functools
import subprocess
import tempfile
from pathlib import Path

from broker import Node, Record, java, read
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, NewPartitions, NewTopic, ResourcePattern, ResourceType
from kafka.errors import KafkaError
from link import Link
from programs import binary, free_ports, wait_for

HEAP = "256m"
# Of the two ways to choose a leader, the one that loses nothing.
PREFERRED = 0
# By name, how its connections are secured. The first is that of the brokers and the tests.
LISTENERS = {"INTERNAL": "PLAINTEXT", "LINK": "PLAINTEXT", "PASSWORD": "SASL_PLAINTEXT", "TLS": "SSL", "MUTUAL": "SSL", "BOTH": "SASL_SSL"}
USER, PASSWORD = "gateway", "correct horse"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.certificates = folder / "certificates"
        make_certificates(self.certificates)
        key_and_certificate = self.certificates / "broker.pem"
        key_and_certificate.write_text((self.certificates / "server.key").read_text() + (self.certificates / "server.pem").read_text())
        (controller,) = free_ports(1)
        self.links: list[Link] = []
        self.nodes: list[Node] = []
        # By listener, the addresses of both brokers.
        self.addresses: dict[str, list[str]] = {name: [] for name in LISTENERS}
        for node_id in (1, 2):
            settings = self.listeners(node_id, controller) | {
                "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": key_and_certificate,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self.certificates / "ca.pem",
                # Who does not log in may do everything, and who does what it is allowed to.
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                # Dead brokers are missed soon, and quotas hold from the second second on.
                "broker.session.timeout.ms": 3000,
                "broker.heartbeat.interval.ms": 500,
                "quota.window.num": 2,
                "num.network.threads": 2,
                "num.io.threads": 3,
            }
            home = folder / f"node-{node_id}"
            home.mkdir()
            users = [f"--add-scram={mechanism}=[name={USER},password={PASSWORD}]" for mechanism in SCRAM]
            self.nodes.append(Node(home, HEAP, settings, *(["--standalone", *users] if node_id == 1 else ["--no-initial-controllers"])))
        self.admin_address = self.addresses["INTERNAL"][0]
        wait_for("Kafka", self.is_whole)

    def listeners(self, node_id: int, controller: int) -> dict[str, object]:
        ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        advertised = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        link = Link()
        link.lead_to(ports["LINK"])
        self.links.append(link)
        advertised["LINK"] = link.address
        for name, address in advertised.items():
            self.addresses[name].append(address)
        listening = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
        settings: dict[str, object] = {
            "process.roles": "broker,controller" if node_id == 1 else "broker",
            "node.id": node_id,
            "listeners": ",".join(listening + ([f"CONTROLLER://127.0.0.1:{controller}"] if node_id == 1 else [])),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in advertised.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{how}" for name, how in [*LISTENERS.items(), ("CONTROLLER", "PLAINTEXT")]),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listener.name.mutual.ssl.client.auth": "required",
        }
        module = "org.apache.kafka.common.security"
        for name in ("password", "both"):
            settings[f"listener.name.{name}.sasl.enabled.mechanisms"] = ",".join(["PLAIN", *SCRAM])
            settings[f"listener.name.{name}.plain.sasl.jaas.config"] = f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            for mechanism in SCRAM:
                settings[f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config"] = f"{module}.scram.ScramLoginModule required;"
        return settings

    def is_whole(self) -> bool:
        return all(node.is_up(address) for node, address in zip(self.nodes, self.addresses["INTERNAL"], strict=True))

    def create_topic(self, name: str, partitions: int = 3, replicas: int = 1, **settings: str) -> None:
        topic_configs = {key.replace("_", "."): value for key, value in settings.items()}
        with KafkaAdminClient(bootstrap_servers=self.admin_address) as admin:
            admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=replicas, topic_configs=topic_configs)])
            admin.wait_for_topics([name])

    def allow(self, user: str, topic: str, operation: ACLOperation = ACLOperation.WRITE) -> None:
        with KafkaAdminClient(bootstrap_servers=self.admin_address) as admin:
            admin.create_acls([ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, topic))])

    def grow_topic(self, name: str, partitions: int) -> None:
        with KafkaAdminClient(bootstrap_servers=self.admin_address) as admin:
            admin.create_partitions({name: NewPartitions(partitions)})
        wait_for("all brokers to know it", lambda: all(len(leaders(address, name)) == partitions for address in self.addresses["INTERNAL"]))

    def leaders(self, topic: str) -> list[int]:
        return leaders(self.admin_address, topic)

    def elect_leaders(self, topic: str) -> list[int]:
        """Gives each partition back to the broker that it was first given to, if that has caught up."""
        with KafkaAdminClient(bootstrap_servers=self.admin_address) as admin:
            admin.elect_leaders(PREFERRED, {topic: list(range(len(self.leaders(topic))))}, raise_errors=False)
        return self.leaders(topic)

    def set_quota(self, client: str, bytes_per_second: int) -> None:
        change = ["--alter", "--add-config", f"producer_byte_rate={bytes_per_second}", "--entity-type", "clients", "--entity-name", client]
        command = java(HEAP, "org.apache.kafka.tools.ConfigCommand", "--bootstrap-server", self.admin_address, *change)
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def read(self, topic: str) -> list[Record]:
        return read(self.admin_address, topic)

    def end(self) -> None:
        # The controller last: the others say goodbye to it.
        for node in reversed(self.nodes):
            node.end()


def make_certificates(folder: Path) -> None:
    """A CA with a certificate for brokers and one for a gateway."""
    command = [binary("outrider"), "cert", "init", str(folder), "--host", "127.0.0.1", "--device", "truck-0042"]
    subprocess.run(command, check=True, capture_output=True)


def leaders(address: str, topic: str) -> list[int]:
    """The node that leads each partition, as this broker knows it; none while one that is asked is away."""
    try:
        with KafkaAdminClient(bootstrap_servers=address) as admin:
            (described,) = admin.describe_topics([topic])
    except KafkaError:
        return []
    return [partition["leader_id"] for partition in sorted(described["partitions"], key=lambda partition: partition["partition_index"])]


@functools.cache
def cluster() -> Cluster:
    """One for all tests."""
    folder = tempfile.TemporaryDirectory(prefix="outrider-kafka-")
    started = Cluster(Path(folder.name))
    # The last that is registered is the first to be called.
    atexit.register(folder.cleanup)
    atexit.register(started.end)
    return started
