//! Prometheus' text format.

use std::fmt::Write;

use crate::counter::{Histogram, HistogramView};

#[derive(Debug)]
pub struct Text(pub String);

impl Text {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP outrider_{name} {help}\n# TYPE outrider_{name} {kind}\n");
    }

    /// One of those that have the same name for every program.
    pub fn of_the_process(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        let _ = write!(self.0, "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}\n");
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "outrider_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    pub fn histogram(&mut self, name: &str, help: &str, view: &HistogramView) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound_ms, count) in Histogram::BOUNDS_MS.iter().zip(&view.at_most) {
            self.sample(&bucket, &[("le", &(*bound_ms as f64 / 1e3).to_string())], *count as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], view.count as f64);
        self.sample(&format!("{name}_sum"), &[], view.sum_us as f64 / 1e6);
        self.sample(&format!("{name}_count"), &[], view.count as f64);
    }

    pub fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.single(name, "counter", help, count as f64);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.single(name, "gauge", help, value);
    }

    /// 1 if it is so, else 0.
    pub fn flag(&mut self, name: &str, help: &str, is_so: bool) {
        self.gauge(name, help, f64::from(u8::from(is_so)));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}
