//! One connection of a bridge, from its subscriptions to its end.

use tokio::sync::{mpsc, oneshot};

use super::BridgeSettings;
use super::on_its_way::OnItsWay;
use super::over::Over;
use super::receiving::Receiving;
use super::sending::{Judgement, Sending};
use super::status::BridgeSource;
use crate::clock;
use crate::core::bridge::Direction;
use crate::core::mqtt::client::limits::check_filters;
use crate::core::mqtt::client::{Filter, Takes};
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
    /// What the other broker did not take.
    pub judgement: Judgement,
}

/// Connects, and passes on what there is until it is over.
pub(super) async fn run(
    settings: &BridgeSettings,
    source: &BridgeSource,
    links: &mpsc::Sender<LinkEnd>,
    memory: &mut Memory,
) -> Over {
    let opened =
        // An attempt that fails says nothing about the session: its ids stay as they are.
        match crate::uplink::open(&settings.broker, settings.session(memory.unreleased.clone())).await {
            Ok(opened) => opened,
            Err(error) => return Over::Connect(error),
        };
    let Memory { unreleased, is_subscribed, judgement } = memory;
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
        judgement,
        acknowledged,
        on_its_way: OnItsWay::default(),
    };
    let receiving = Receiving { settings, source, handle: handle.clone() };
    let is_known = welcome.session_present && *is_subscribed;
    let (subscribed_in, subscribed) = oneshot::channel();
    let subscribing = async {
        let subscribed = if is_known { Ok(()) } else { subscribe(settings, source, &handle, &welcome.takes).await };
        if let Err(error) = subscribed {
            return match error {
                SubscribeError::Ended(end) => Over::Remote(end),
                SubscribeError::Unfit(unfit) => Over::Refused(format!("the topics cannot be subscribed to: {unfit}")),
            };
        }
        // Who has refused one is asked again.
        *is_subscribed = source.state().filters_refused == 0;
        // Nobody waits for it unless it matters.
        let _ = subscribed_in.send(());
        source.change(|state| {
            state.connected_at_ms = Some(clock::now_ms());
            state.connections += 1;
            let refused = state.filters_refused;
            state.last_error =
                (refused > 0).then(|| format!("{refused} filters of `topics` are not granted by the other broker"));
            state.is_held = false;
        });
        tracing::info!("bridge {}: connected to {}", settings.name(), settings.broker.endpoint);
        Over::Remote(handle.closed().await)
    };
    // What the session has kept comes before the subscriptions are answered.
    let over = tokio::select! {
        over = receiving.run(&mut incoming, arriving) => over,
        over = sending_alone(&sending, subscribed, &mut leaving) => over,
        over = subscribing => over,
    };
    if let Over::Remote(end) = &over {
        sending.judge(end).await;
        judgement.blame.borrow_mut().ended(end);
    }
    *unreleased = handle.unreleased();
    handle.leave();
    over
}

/// To know what the other broker takes offence at, nothing is sent beside the subscriptions.
async fn sending_alone(
    sending: &Sending<'_>,
    subscribed: oneshot::Receiver<()>,
    leaving: &mut mpsc::Receiver<Vec<u8>>,
) -> Over {
    let is_careful = sending.judgement.blame.borrow().is_careful();
    if is_careful && subscribed.await.is_err() {
        // The link is over.
        std::future::pending::<()>().await;
    }
    sending.run(leaving).await
}

async fn subscribe(
    settings: &BridgeSettings,
    source: &BridgeSource,
    handle: &Handle,
    takes: &Takes,
) -> Result<(), SubscribeError> {
    let has_both = settings.plan.lines.iter().any(|line| line.direction == Direction::Both);
    let filter = |(filter, qos): (&str, u8)| Filter {
        filter: filter.to_owned(),
        qos,
        // Otherwise nothing of ours matches, and a service that does not know it is not bothered.
        no_local: has_both || !settings.broker.endpoint.is_of_aws(),
        retain_as_published: true,
        retained: RetainHandling::IfNew,
    };
    let (mut filters, mut count) = (Vec::new(), 0);
    for filter in settings.plan.remote_filters().into_iter().map(filter) {
        // One that can never be asked for keeps nothing else from passing.
        match check_filters(std::slice::from_ref(&filter), &settings.limits, takes) {
            Ok(()) => filters.push(filter),
            Err(unfit) => {
                count += 1;
                let name = settings.name();
                tracing::error!("bridge {name}: {} cannot be subscribed to: {unfit}", filter.filter);
            }
        }
    }
    let granted = match filters.is_empty() {
        true => Vec::new(),
        false => handle.subscribe(&filters).await?,
    };
    let refused = filters.iter().zip(&granted).filter_map(|(filter, granted)| Some((filter, granted.as_ref().err()?)));
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
