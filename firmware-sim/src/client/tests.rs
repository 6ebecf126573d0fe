//! Against a broker that says what the test lets it say.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const QUICKLY: Duration = Duration::from_secs(10);

/// The broker's end of a connection.
struct Peer(TcpStream);

impl Peer {
    /// First byte and body of the next packet, all of which are short here.
    async fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.expect("a packet");
        assert!(head[1] < 128, "a short packet");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).await.expect("its body");
        (head[0], body)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
    }

    /// The packet id of the next packet, which is a PUBLISH on the topic `t`.
    async fn publish(&mut self) -> u16 {
        let (first, body) = self.packet().await;
        assert_eq!((first >> 4, &body[..3]), (3, &b"\x00\x01t"[..]));
        u16::from_be_bytes([body[3], body[4]])
    }
}

/// A client and the broker's end of its connection, on which this CONNACK has been sent.
async fn connected(version: Version, window: u16, connack: &[u8]) -> (Client, Peer, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let access = Access { version, ..Access::default() };
    let mut client = Client::connect(Connecting {
        broker: listener.local_addr().expect("an address"),
        handshakes: Handshakes::new(&access),
        access,
        client_id: "truck-01".to_owned(),
        window,
        requests_max: 100,
    });
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut peer = Peer(stream);
    assert_eq!(peer.packet().await.0, 0x10);
    peer.send(connack).await;
    match next(&mut client).await {
        Happened::Connected { in_flight_max } => (client, peer, in_flight_max),
        other => panic!("{other:?}"),
    }
}

async fn next(client: &mut Client) -> Happened {
    tokio::time::timeout(QUICKLY, client.next()).await.expect("something happens")
}

/// The next thing that is not a publish on its way.
async fn next_answer(client: &mut Client) -> Happened {
    loop {
        match next(client).await {
            Happened::Sent { .. } => {}
            happened => return happened,
        }
    }
}

const CONNACK: [(Version, &[u8]); 2] = [(Version::V3_1_1, b"\x20\x02\x00\x00"), (Version::V5, b"\x20\x03\x00\x00\x00")];

#[tokio::test]
async fn both_versions_tell_the_same() {
    for (version, connack) in CONNACK {
        let (mut client, mut peer, in_flight_max) = connected(version, 4, connack).await;
        assert_eq!(in_flight_max, 4);
        client.publish("t", Qos::AtLeastOnce, Bytes::from_static(b"1")).await;
        let packet_id = peer.publish().await;
        assert_eq!(next(&mut client).await, Happened::Sent { packet_id });
        peer.send(&[0x40, 2, 0, packet_id as u8]).await;
        assert_eq!(next(&mut client).await, Happened::Acknowledged { packet_id });
        client.publish("t", Qos::ExactlyOnce, Bytes::from_static(b"2")).await;
        let packet_id = peer.publish().await;
        peer.send(&[0x50, 2, 0, packet_id as u8]).await;
        assert_eq!(peer.packet().await, (0x62, vec![0, packet_id as u8]));
        peer.send(&[0x70, 2, 0, packet_id as u8]).await;
        assert_eq!(next_answer(&mut client).await, Happened::Received { packet_id });
        assert_eq!(next(&mut client).await, Happened::Completed { packet_id });
        client.goodbye(QUICKLY).await;
        assert_eq!(peer.packet().await.0, 0xE0);
    }
}

#[tokio::test]
async fn acknowledgements_before_the_end_of_a_connection_count() {
    for (version, connack) in CONNACK {
        let (mut client, mut peer, _) = connected(version, 4, connack).await;
        for _ in 0..2 {
            client.publish("t", Qos::AtLeastOnce, Bytes::new()).await;
        }
        let [first, second] = [peer.publish().await, peer.publish().await];
        // The third one acknowledges nothing, for which the library gives the connection up.
        peer.send(&[0x40, 2, 0, first as u8, 0x40, 2, 0, second as u8, 0x40, 2, 0, first as u8]).await;
        assert_eq!(next_answer(&mut client).await, Happened::Acknowledged { packet_id: first });
        assert_eq!(next(&mut client).await, Happened::Acknowledged { packet_id: second });
        loop {
            match next(&mut client).await {
                Happened::Acknowledged { packet_id } => assert_eq!(packet_id, first, "the outbox knows it is settled"),
                Happened::Lost { reason } => break assert!(reason.contains("ack"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_broker_of_version_5_says_how_much_it_takes() {
    let connack = b"\x20\x06\x00\x00\x03\x21\x00\x02";
    let (_client, _peer, in_flight_max) = connected(Version::V5, 4, connack).await;
    assert_eq!(in_flight_max, 2);
}

#[tokio::test]
async fn what_is_refused_is_told_and_takes_no_room() {
    // More refusals than the window has places.
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let (mut client, mut peer, _) = connected(Version::V5, 2, CONNACK[1].1).await;
        for _ in 0..10 {
            client.publish("t", qos, Bytes::new()).await;
            let packet_id = tokio::time::timeout(QUICKLY, peer.publish()).await.expect("it is sent");
            let first = if qos == Qos::AtLeastOnce { 0x40 } else { 0x50 };
            peer.send(&[first, 3, 0, packet_id as u8, 0x97]).await;
            let reason = "QuotaExceeded".to_owned();
            assert_eq!(next_answer(&mut client).await, Happened::Refused { packet_id, reason });
        }
    }
}

#[tokio::test]
async fn a_broker_that_refuses_the_connection_is_quoted() {
    for (version, connack, expected) in [
        (Version::V3_1_1, &b"\x20\x02\x00\x05"[..], "NotAuthorized"),
        (Version::V5, b"\x20\x03\x00\x87\x00", "NotAuthorized"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let access = Access { version, ..Access::default() };
        let mut client = Client::connect(Connecting {
            broker: listener.local_addr().expect("an address"),
            handshakes: Handshakes::new(&access),
            access,
            client_id: "truck-01".to_owned(),
            window: 1,
            requests_max: 1,
        });
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut peer = Peer(stream);
        peer.packet().await;
        peer.send(connack).await;
        match next(&mut client).await {
            Happened::Lost { reason } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}
