//! The status in short, as events have it: what a page shows all the time.

use std::borrow::Cow;

use serde::Serialize;

use crate::admin::flow::FlowLine;
use crate::admin::status::{Cost, DiskStatus, Status};

/// What is told about every two seconds.
#[derive(Debug, Serialize)]
pub struct Brief {
    pub version: &'static str,
    pub gateway: String,
    pub run: String,
    pub state: Cow<'static, str>,
    pub clock: &'static str,
    pub now_ms: i64,
    pub uptime_s: u64,
    pub connections: u64,
    pub series: u64,
    pub readings_accepted: u64,
    pub alerts_raised: u64,
    pub ledger_adds_up: bool,
    pub flow: Vec<FlowLine>,
    pub store_bytes: u64,
    pub store_bytes_max: u64,
    pub holds_days: Option<f64>,
    pub disk: Option<DiskStatus>,
    pub cost: Cost,
}

impl From<Status> for Brief {
    fn from(status: Status) -> Brief {
        Brief {
            version: status.version,
            gateway: status.gateway,
            run: status.run,
            state: status.state,
            clock: status.clock,
            now_ms: status.now_ms,
            uptime_s: status.uptime_s,
            connections: status.mqtt.connections,
            series: status.detection.series,
            readings_accepted: status.received.accepted,
            alerts_raised: status.detection.alerts_raised,
            ledger_adds_up: status.ledger_adds_up,
            flow: status.flow,
            store_bytes: status.store.bytes,
            store_bytes_max: status.store.bytes_max,
            holds_days: status.store.holds_days,
            disk: status.disk,
            cost: status.cost,
        }
    }
}
