//! Of each `[[link]]`.

use super::text::Text;
use crate::admin::status::{LinkLine, Status};

pub fn write(text: &mut Text, status: &Status) {
    type Of = fn(&LinkLine) -> Option<f64>;
    let families: [(&str, &str, Of); 7] = [
        ("link_metered", "1 while the link counts as metered", |link| Some(f64::from(u8::from(link.metered)))),
        ("link_waiting", "1 while others than alerts wait for its budget", |link| {
            Some(f64::from(u8::from(link.waiting.is_some())))
        }),
        ("link_bytes_today", "bytes on sockets today (UTC), while it was metered", |link| {
            Some(link.bytes_today as f64)
        }),
        ("link_bytes_this_month", "the same in this month", |link| Some(link.bytes_this_month as f64)),
        ("link_bytes_per_day_max", "the budget of a day", |link| link.bytes_per_day.map(|bytes| bytes as f64)),
        ("link_bytes_per_month_max", "the budget of a month", |link| link.bytes_per_month.map(|bytes| bytes as f64)),
        ("link_forecast_bytes_this_month", "bytes of the whole month at the pace of the last seven days", |link| {
            link.forecast_bytes_this_month.map(|bytes| bytes as f64)
        }),
    ];
    for (name, help, of) in families.into_iter().filter(|_| !status.links.is_empty()) {
        text.family(name, "gauge", help);
        for link in &status.links {
            if let Some(value) = of(link) {
                text.sample(name, &[("link", &link.name)], value);
            }
        }
    }
    if status.links.is_empty() {
        return;
    }
    text.family(
        "link_metered_bytes_total",
        "counter",
        "bytes on sockets while the link was metered, over all runs, by class",
    );
    for link in &status.links {
        for (class, bytes) in &link.metered_bytes_by_class {
            text.sample("link_metered_bytes_total", &[("link", &link.name), ("class", class)], *bytes as f64);
        }
    }
    text.family("link_free_bytes_total", "counter", "bytes on sockets while the link was not metered, over all runs");
    for link in &status.links {
        text.sample("link_free_bytes_total", &[("link", &link.name)], link.free_bytes as f64);
    }
}
