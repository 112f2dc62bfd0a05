//! Metrics in the text format of Prometheus.
//!
//! - [`description`] is what is said of a metric
//! - [`names`] lists every metric with its kind, labels and help
//! - `series` counts what happened: a counter moves with the log line of the same thing, in the same function
//! - `live` takes gauges from the loop's own report when they are read
//! - `text` writes the format
//!
//! The exporter of the crate `metrics` is not used: it brings 20 crates (hash maps for concurrent writers, sketches, a
//! clock) for two dozen metrics with fixed labels.

#[cfg(test)]
mod dashboard;
pub mod description;
mod live;
pub mod names;
pub(super) mod series;
mod text;

use ipc_protocol::status::StatusReport;

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric of this process with HELP and TYPE; `report` is the loop's report of this moment.
pub fn render(report: &StatusReport) -> String {
    for model in &report.models {
        names::expect_of(&model.key);
    }
    let mut gauges = live::samples(report);
    let mut text = String::new();
    for metric in names::ALL {
        let described = metric.describe();
        text::head(&mut text, described);
        metric.write(&mut text);
        for sample in gauges.remove(described.name).unwrap_or_default() {
            let labels = described.labels.iter().copied();
            let values = sample.values.iter().map(String::as_str);
            text::sample(&mut text, described.name, labels.zip(values), sample.value);
        }
    }
    text
}
