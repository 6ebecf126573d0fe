"""Consumers that poll under the Kinesis Client Library, fed by real gateways: what the verification says of one that lost what it says, and of one whose record was
taken out of the stream. long_client_library.py has more of it, and takes longer.
"""

import unittest

from verification import Verification


class Polled(Verification):
    def test_what_a_gateway_lost_is_explained_and_what_was_taken_out_of_the_stream_is_found(self) -> None:
        honest, robbed = self.feed("kpl")
        daemons = [self.start(stream, "polling.properties") for stream in ("fleet", "anomalies")]
        self.deliver(honest, robbed)
        explained, found = honest.ledger(), robbed.ledger()
        for gateway in (honest, robbed):
            gateway.restart()
        self.assert_explained(explained)

        self.wait_for_word("elsewhere-anomalies", found["raw"]["accepted"])
        robbed.end()
        victim = self.copy_aggregated_but_one("elsewhere", "fleet")
        self.copy_aggregated_but_one("elsewhere-anomalies", "anomalies", takes=False)
        self.assert_found(victim, found)
        for daemon in daemons:
            self.assertIsNone(daemon.process.poll(), daemon.log.read_text()[-3000:])


if __name__ == "__main__":
    unittest.main()
