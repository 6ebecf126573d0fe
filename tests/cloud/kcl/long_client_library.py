"""What takes minutes under the Kinesis Client Library: enhanced fan-out, gateways that go on and say how they are once a minute, and a daemon that ends and starts
again meanwhile.
"""

import unittest

from programs import wait_for
from verification import WAIT_SECONDS, Verification


class PushedAndPolled(Verification):
    def test_a_daemon_that_starts_again_goes_on_where_it_was(self) -> None:
        honest, robbed = self.feed("lines")
        polling, fanout = self.start("anomalies", "polling.properties"), self.start("fleet", "fanout.properties")
        wait_for("all to be delivered", lambda: honest.is_delivered() and robbed.is_delivered(), WAIT_SECONDS)
        self.assert_explained(honest.ledger())

        # The consumer ends, and meanwhile comes what is aggregated, less one record.
        fanout.end()
        ledger = robbed.ledger()
        self.wait_for_word("elsewhere-anomalies", ledger["raw"]["accepted"])
        robbed.end()
        victim = self.copy_aggregated_but_one("elsewhere", "fleet")
        self.copy_aggregated_but_one("elsewhere-anomalies", "anomalies", takes=False)
        fanout = self.start("fleet", "fanout.properties")
        self.assert_found(victim, ledger)
        for daemon in (polling, fanout):
            self.assertIsNone(daemon.process.poll(), daemon.log.read_text()[-3000:])


if __name__ == "__main__":
    unittest.main()
