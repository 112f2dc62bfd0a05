//! Counters and histograms of this process, with a series for each combination of label values.
//!
//! Like the log they belong to the process. A lock is held for one addition, or while one metric is written.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::description::{MetricDescription, MetricKind};
use super::text;

/// A metric that can be described, and written with its present values.
pub trait Metric: Debug + Sync {
    fn describe(&self) -> &MetricDescription;
    /// Writes its series; a gauge has none here.
    fn write(&self, text: &mut String);
}

/// Values of the labels, in their order.
type LabelValues<const N: usize> = [String; N];

/// A number that only rises.
#[derive(Debug)]
pub struct Counter<const N: usize> {
    description: MetricDescription,
    series: Mutex<BTreeMap<LabelValues<N>, u64>>,
}

impl<const N: usize> Counter<N> {
    pub(super) const fn new(
        name: &'static str,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self {
            description: MetricDescription {
                name,
                kind: MetricKind::Counter,
                labels,
                help,
            },
            series: Mutex::new(BTreeMap::new()),
        }
    }

    /// Adds `more` to a series; with 0 it only appears, so that its first rise is seen as one.
    pub(in crate::telemetry) fn add(&self, values: [&str; N], more: u64) {
        let values = values.map(str::to_owned);
        *lock(&self.series).entry(values).or_default() += more;
    }
}

impl<const N: usize> Metric for Counter<N> {
    fn describe(&self) -> &MetricDescription {
        &self.description
    }

    fn write(&self, text: &mut String) {
        for (values, count) in lock(&self.series).iter() {
            let labels = labelled(&self.description, values);
            text::sample(text, self.description.name, labels, *count as f64);
        }
    }
}

/// Amounts, counted by size.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    description: MetricDescription,
    /// Upper bounds, rising; above the last there is one more bucket.
    bounds: &'static [f64],
    series: Mutex<BTreeMap<LabelValues<N>, Buckets>>,
}

#[derive(Debug, Clone)]
struct Buckets {
    /// Amounts between two neighbouring bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    pub(super) const fn new(
        name: &'static str,
        labels: &'static [&'static str; N],
        bounds: &'static [f64],
        help: &'static str,
    ) -> Self {
        Self {
            description: MetricDescription {
                name,
                kind: MetricKind::Histogram,
                labels,
                help,
            },
            bounds,
            series: Mutex::new(BTreeMap::new()),
        }
    }

    /// Counts an amount, which is not negative.
    pub(in crate::telemetry) fn observe(&self, values: [&str; N], amount: f64) {
        let empty = || Buckets {
            counts: vec![0; self.bounds.len() + 1],
            sum: 0.0,
        };
        let bucket = self.bounds.partition_point(|bound| *bound < amount);
        let mut series = lock(&self.series);
        let buckets = series
            .entry(values.map(str::to_owned))
            .or_insert_with(empty);
        buckets.counts[bucket] += 1;
        buckets.sum += amount;
    }

    /// Counts a duration in seconds.
    pub(in crate::telemetry) fn time(&self, values: [&str; N], took: Duration) {
        self.observe(values, took.as_secs_f64());
    }
}

impl<const N: usize> Metric for Histogram<N> {
    fn describe(&self) -> &MetricDescription {
        &self.description
    }

    fn write(&self, text: &mut String) {
        let name = self.description.name;
        for (values, buckets) in lock(&self.series).iter() {
            let labels = || labelled(&self.description, values);
            let bounds = self.bounds.iter().map(f64::to_string);
            let mut below = 0;
            for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&buckets.counts) {
                below += count;
                let mut labels: Vec<(&str, &str)> = labels().collect();
                labels.push(("le", &bound));
                text::sample(text, format_args!("{name}_bucket"), labels, below as f64);
            }
            text::sample(text, format_args!("{name}_sum"), labels(), buckets.sum);
            text::sample(text, format_args!("{name}_count"), labels(), below as f64);
        }
    }
}

/// A value that the loop knows; it is taken from its report whenever it is read.
#[derive(Debug)]
pub struct LiveValue<const N: usize>(MetricDescription);

impl<const N: usize> LiveValue<N> {
    pub(super) const fn gauge(
        name: &'static str,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self::of_kind(MetricKind::Gauge, name, labels, help)
    }

    /// A number that only rises and that another program counts.
    pub(super) const fn counter(
        name: &'static str,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self::of_kind(MetricKind::Counter, name, labels, help)
    }

    const fn of_kind(
        kind: MetricKind,
        name: &'static str,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self(MetricDescription {
            name,
            kind,
            labels,
            help,
        })
    }
}

impl<const N: usize> Metric for LiveValue<N> {
    fn describe(&self) -> &MetricDescription {
        &self.0
    }

    fn write(&self, _: &mut String) {}
}

fn labelled<'a, const N: usize>(
    description: &'a MetricDescription,
    values: &'a LabelValues<N>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let values = values.iter().map(String::as_str);
    description.labels.iter().copied().zip(values)
}

fn lock<T>(series: &Mutex<T>) -> MutexGuard<'_, T> {
    series.lock().expect("no holder of this lock can panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_amount_in_every_bucket_above_it() {
        let sizes: Histogram<1> = Histogram::new("s", &["model"], &[0.5, 1.0], "Sizes.");
        for amount in [0.1, 0.5, 0.7, 3.0] {
            sizes.observe(["syn"], amount);
        }
        let mut text = String::new();
        sizes.write(&mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "imagepool_s_bucket{model=\"syn\",le=\"0.5\"} 2",
                "imagepool_s_bucket{model=\"syn\",le=\"1\"} 3",
                "imagepool_s_bucket{model=\"syn\",le=\"+Inf\"} 4",
                "imagepool_s_sum{model=\"syn\"} 4.3",
                "imagepool_s_count{model=\"syn\"} 4",
            ]
        );
    }

    #[test]
    fn a_counter_has_a_series_for_each_combination_of_values() {
        let jobs: Counter<2> = Counter::new("j", &["model", "outcome"], "Jobs.");
        jobs.add(["a", "finished"], 1);
        jobs.add(["a", "finished"], 2);
        jobs.add(["b", "failed"], 0);
        let mut text = String::new();
        jobs.write(&mut text);
        assert_eq!(
            text,
            "imagepool_j{model=\"a\",outcome=\"finished\"} 3\nimagepool_j{model=\"b\",outcome=\"failed\"} 0\n"
        );
    }
}
