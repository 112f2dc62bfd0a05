//! The description of a metric: name, kind, labels, help.

/// The beginning of every name.
pub const PREFIX: &str = "imagepool_";

/// The name, kind and meaning of a metric.
#[derive(Debug, Clone, Copy)]
pub struct MetricDescription {
    /// Without the prefix.
    pub name: &'static str,
    pub kind: MetricKind,
    pub labels: &'static [&'static str],
    /// One sentence without a line feed or backslash.
    pub help: &'static str,
}

/// The kind of a metric, in the words of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
