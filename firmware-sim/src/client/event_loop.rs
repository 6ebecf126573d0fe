//! The event loops of rumqttc's two versions, and what their events mean to a publisher.

use super::Happened;
use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{Outgoing, SubscribeReasonCode, v5};

pub(super) enum EventLoop {
    V3(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

#[derive(Debug, PartialEq)]
pub(super) enum Polled {
    Happened(Happened),
    DisconnectSent,
    /// Nothing that concerns a publisher.
    Other,
}

impl EventLoop {
    /// Connects at first, later sends and receives. After an error nothing more may be asked of it but [`EventLoop::left`].
    pub async fn poll(&mut self, window: u16) -> Result<Polled, String> {
        match self {
            EventLoop::V3(event_loop) => match event_loop.poll().await {
                Ok(event) => Ok(of_version_3(&event, window)),
                Err(error) => Err(error.to_string()),
            },
            EventLoop::V5(event_loop) => match event_loop.poll().await {
                Ok(event) => Ok(of_version_5(&event, window)),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// The next event that was left when an error ended the connection.
    pub fn left(&mut self, window: u16) -> Option<Happened> {
        loop {
            let polled = match self {
                EventLoop::V3(event_loop) => of_version_3(&event_loop.state.events.pop_front()?, window),
                EventLoop::V5(event_loop) => of_version_5(&event_loop.state.events.pop_front()?, window),
            };
            match polled {
                // It is noted before it is written, which is what may have failed. With QoS 0 nothing else would tell.
                Polled::Happened(Happened::Sent { packet_id: 0 }) | Polled::DisconnectSent | Polled::Other => {}
                Polled::Happened(happened) => return Some(happened),
            }
        }
    }

    /// To be called when nothing is in flight, with how many publishes were refused since. Those refused at PUBREC or PUBCOMP are counted as
    /// in flight by the library's version 5, which would send nothing at all once they fill its window.
    pub fn forget_refused(&mut self, refused: u16) {
        if let EventLoop::V5(event_loop) = self
            && (1..=refused).contains(&event_loop.state.inflight())
        {
            event_loop.state.clean();
        }
    }
}

fn of_version_3(event: &rumqttc::Event, window: u16) -> Polled {
    use rumqttc::Packet;
    Polled::Happened(match event {
        rumqttc::Event::Incoming(Packet::ConnAck(_)) => Happened::Connected { in_flight_max: window },
        rumqttc::Event::Incoming(Packet::PubAck(ack)) => Happened::Acknowledged { packet_id: ack.pkid },
        rumqttc::Event::Incoming(Packet::PubRec(ack)) => Happened::Received { packet_id: ack.pkid },
        rumqttc::Event::Incoming(Packet::PubComp(ack)) => Happened::Completed { packet_id: ack.pkid },
        rumqttc::Event::Incoming(Packet::SubAck(ack)) => {
            Happened::Subscribed { is_granted: matches!(ack.return_codes[..], [SubscribeReasonCode::Success(_)]) }
        }
        rumqttc::Event::Incoming(Packet::Publish(publish)) => {
            Happened::Message { payload: publish.payload.clone(), is_retained: publish.retain }
        }
        rumqttc::Event::Outgoing(outgoing) => return of_outgoing(outgoing),
        rumqttc::Event::Incoming(_) => return Polled::Other,
    })
}

fn of_version_5(event: &v5::Event, window: u16) -> Polled {
    use packets::{Packet, PubAckReason, PubCompReason, PubRecReason};
    let refused =
        |packet_id, reason: &dyn std::fmt::Debug| Happened::Refused { packet_id, reason: format!("{reason:?}") };
    Polled::Happened(match event {
        v5::Event::Incoming(Packet::ConnAck(ack)) => {
            let receive_max = ack.properties.as_ref().and_then(|properties| properties.receive_max);
            Happened::Connected { in_flight_max: receive_max.map_or(window, |receive_max| receive_max.min(window)) }
        }
        v5::Event::Incoming(Packet::PubAck(ack)) => match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                Happened::Acknowledged { packet_id: ack.pkid }
            }
            reason => refused(ack.pkid, &reason),
        },
        v5::Event::Incoming(Packet::PubRec(ack)) => match ack.reason {
            PubRecReason::Success | PubRecReason::NoMatchingSubscribers => Happened::Received { packet_id: ack.pkid },
            reason => refused(ack.pkid, &reason),
        },
        v5::Event::Incoming(Packet::PubComp(ack)) => match ack.reason {
            PubCompReason::Success => Happened::Completed { packet_id: ack.pkid },
            reason => refused(ack.pkid, &reason),
        },
        v5::Event::Incoming(Packet::SubAck(ack)) => Happened::Subscribed {
            is_granted: matches!(ack.return_codes[..], [packets::SubscribeReasonCode::Success(_)]),
        },
        v5::Event::Incoming(Packet::Publish(publish)) => {
            Happened::Message { payload: publish.payload.clone(), is_retained: publish.retain }
        }
        v5::Event::Outgoing(outgoing) => return of_outgoing(outgoing),
        v5::Event::Incoming(_) => return Polled::Other,
    })
}

fn of_outgoing(outgoing: &Outgoing) -> Polled {
    match outgoing {
        Outgoing::Publish(packet_id) => Polled::Happened(Happened::Sent { packet_id: *packet_id }),
        Outgoing::Disconnect => Polled::DisconnectSent,
        _ => Polled::Other,
    }
}
