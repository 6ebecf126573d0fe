//! Of the MQTT listeners and their clients.

use super::text::Text;
use crate::admin::status::Status;

pub fn write(text: &mut Text, status: &Status) {
    let mqtt = &status.mqtt;
    text.gauge("mqtt_connections", "clients connected now", mqtt.connections as f64);
    text.family("mqtt_publishes_total", "counter", "publishes received since the start");
    text.sample("mqtt_publishes_total", &[("qos", "0")], mqtt.publishes_qos_0 as f64);
    text.sample("mqtt_publishes_total", &[("qos", "1")], mqtt.publishes_qos_1 as f64);
    text.sample("mqtt_publishes_total", &[("qos", "2")], mqtt.publishes_qos_2 as f64);
    let counters = [
        ("mqtt_connections_total", "connections since the start", mqtt.connections_total),
        ("mqtt_connections_refused_total", "connections refused since the start", mqtt.connections_refused),
        (
            "mqtt_connections_delayed_total",
            "connections accepted later because too many came at once",
            mqtt.connections_delayed,
        ),
        (
            "mqtt_clients_slowed_total",
            "how often a client was not read for a while because it had sent more than it may",
            mqtt.clients_slowed,
        ),
        ("mqtt_logins_unchecked_total", "connections that sent a login, which is not checked", mqtt.logins_unchecked),
        (
            "mqtt_publishes_refused_total",
            "publishes to the gateway's own topics and those of brokers, and acknowledgements of alerts that do not say who acknowledges",
            mqtt.publishes_refused,
        ),
        (
            "mqtt_publishes_denied_total",
            "publishes that their clients had no right to: acknowledged and dropped",
            mqtt.publishes_denied,
        ),
        ("mqtt_filters_denied_total", "subscriptions that their clients had no right to", mqtt.filters_denied),
        ("mqtt_logins_refused_total", "logins that were wrong, or came too often", mqtt.logins_refused),
        ("mqtt_received_bytes_total", "bytes read from clients", mqtt.bytes_received),
        (
            "mqtt_subscribers_overrun_total",
            "subscribers disconnected because they read too slowly",
            mqtt.subscribers_overrun,
        ),
        (
            "mqtt_messages_dropped_total",
            "messages that found a subscriber's queue full, or whose bridge is no longer configured",
            mqtt.messages_dropped,
        ),
        (
            "mqtt_messages_unstored_total",
            "messages for sessions that are kept in memory only, for lack of room in the store",
            mqtt.messages_unstored,
        ),
        (
            "mqtt_messages_left_out_total",
            "messages that were too large for their subscriber, or had expired",
            mqtt.messages_left_out,
        ),
        (
            "mqtt_sessions_given_way_total",
            "sessions of clients that were away, ended to make room",
            mqtt.sessions_given_way,
        ),
        (
            "mqtt_sessions_expired_total",
            "sessions ended because their clients were away too long",
            mqtt.sessions_expired,
        ),
        ("mqtt_filters_refused_total", "subscriptions refused", mqtt.filters_refused),
        ("mqtt_retained_refused_total", "retained messages refused because there are too many", mqtt.retained_refused),
    ];
    for (name, help, value) in counters {
        text.counter(name, help, value);
    }
}
