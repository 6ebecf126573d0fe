//! One connection of a bridge, from its subscriptions to its end.

use tokio::sync::mpsc;

use super::BridgeSettings;
use super::over::Over;
use super::receiving::Receiving;
use super::sending::Sending;
use super::status::BridgeSource;
use crate::clock;
use crate::core::bridge::Direction;
use crate::core::mqtt::client::Filter;
use crate::core::mqtt::packet::RetainHandling;
use crate::mqtt::bridging::{self, LinkEnd, RemoteEnd};
use crate::uplink::{Handle, Opened, SubscribeError};

/// What a bridge remembers from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Ids of QoS 2 that the other broker has not released.
    pub unreleased: Vec<u16>,
    /// This configuration's filters were asked for.
    pub is_subscribed: bool,
    /// See [`Sending::is_careful`].
    pub is_careful: bool,
}

/// Connects, and passes on what there is until it is over.
pub(super) async fn run(
    settings: &BridgeSettings,
    source: &BridgeSource,
    links: &mpsc::Sender<LinkEnd>,
    memory: &mut Memory,
) -> Over {
    let opened =
        match crate::uplink::open(&settings.broker, settings.session(std::mem::take(&mut memory.unreleased))).await {
            Ok(opened) => opened,
            Err(error) => return Over::Connect(error),
        };
    let Opened { handle, mut incoming, welcome } = opened;
    let (link, remote) = bridging::link();
    if links.send(link).await.is_err() {
        return Over::Local;
    }
    let RemoteEnd { arriving, acknowledged, mut leaving } = remote;
    let sending = Sending {
        settings,
        source,
        handle: handle.clone(),
        takes: welcome.takes,
        is_careful: memory.is_careful,
        acknowledged,
    };
    let receiving = Receiving { settings, source, handle: handle.clone() };
    let is_known = welcome.session_present && memory.is_subscribed;
    let subscribing = async {
        let subscribed = if is_known { Ok(()) } else { subscribe(settings, source, &handle).await };
        if let Err(error) = subscribed {
            return match error {
                SubscribeError::Ended(end) => Over::Remote(end),
                SubscribeError::Unfit(unfit) => Over::Refused(format!("the topics cannot be subscribed to: {unfit}")),
            };
        }
        memory.is_subscribed = true;
        source.change(|state| {
            state.connected_at_ms = Some(clock::now_ms());
            state.connections += 1;
            state.last_error = None;
        });
        tracing::info!("bridge {}: connected to {}", settings.name(), settings.broker.endpoint);
        Over::Remote(handle.closed().await)
    };
    // What the session has kept comes before the subscriptions are answered.
    let over = tokio::select! {
        over = receiving.run(&mut incoming, arriving) => over,
        over = sending.run(&mut leaving) => over,
        over = subscribing => over,
    };
    memory.unreleased = handle.unreleased();
    handle.leave();
    over
}

async fn subscribe(settings: &BridgeSettings, source: &BridgeSource, handle: &Handle) -> Result<(), SubscribeError> {
    let has_both = settings.plan.lines.iter().any(|line| line.direction == Direction::Both);
    let filter = |(filter, qos): (&str, u8)| Filter {
        filter: filter.to_owned(),
        qos,
        // Otherwise nothing of ours matches, and a service that does not know it is not bothered.
        no_local: has_both || !settings.broker.endpoint.is_of_aws(),
        retain_as_published: true,
        retained: RetainHandling::IfNew,
    };
    let filters: Vec<Filter> = settings.plan.remote_filters().into_iter().map(filter).collect();
    if filters.is_empty() {
        return Ok(());
    }
    let granted = handle.subscribe(&filters).await?;
    let refused = filters.iter().zip(&granted).filter_map(|(filter, granted)| Some((filter, granted.as_ref().err()?)));
    let mut count = 0;
    for (filter, code) in refused {
        count += 1;
        tracing::error!(
            "bridge {}: the other broker does not grant {} (reason code 0x{code:02x})",
            settings.name(),
            filter.filter
        );
    }
    source.change(|state| state.filters_refused = count);
    Ok(())
}
