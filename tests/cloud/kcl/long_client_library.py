"""What takes minutes under the Kinesis Client Library: enhanced fan-out, gateways that go on and say how they are once a minute, and a daemon that ends and starts
again meanwhile.
"""

import unittest

from verification import Verification


class PushedAndPolled(Verification):
    def test_a_daemon_that_starts_again_goes_on_where_it_was(self) -> None:
        honest, robbed = self.feed("lines")
        polling, fanout = self.start("anomalies", "polling.properties"), self.start("fleet", "fanout.properties")
        self.deliver(honest, robbed)
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
