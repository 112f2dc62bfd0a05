//! The dashboard of `scripts/grafana/`: a panel for every metric, and for no other.

use serde_json::{Value, json};

use super::description::{MetricDescription, MetricKind, PREFIX};
use super::names::ALL;

/// The file, from this package's folder.
const FILE: &str = "../scripts/grafana/dashboard.json";
/// Set to write the file instead of comparing it.
const WRITE: &str = "IMAGEPOOL_WRITE_DASHBOARD";

/// The first metric of each row, with the row's title.
const ROWS: [(&str, &str); 5] = [
    ("jobs_total", "Jobs"),
    ("queue_depth", "Queue"),
    ("workers", "Workers and models"),
    ("memory_bytes", "Memory and GPUs"),
    ("loop_stalls_total", "Daemon"),
];
/// Panels beside each other; Grafana counts 24 columns.
const COLUMNS: usize = 3;
const WIDTH: usize = 24 / COLUMNS;
const HEIGHT: usize = 8;

fn dashboard() -> Value {
    let mut panels: Vec<Value> = Vec::new();
    let (mut x, mut y) = (0, 0);
    for metric in ALL.iter().map(|metric| metric.describe()) {
        if let Some((_, title)) = ROWS.iter().find(|(first, _)| *first == metric.name) {
            if x > 0 {
                (x, y) = (0, y + HEIGHT);
            }
            let place = json!({ "h": 1, "w": 24, "x": 0, "y": y });
            let id = panels.len() + 1;
            panels.push(
                json!({ "id": id, "type": "row", "title": title, "gridPos": place, "panels": [] }),
            );
            y += 1;
        }
        let place = json!({ "h": HEIGHT, "w": WIDTH, "x": x * WIDTH, "y": y });
        panels.push(panel(panels.len() + 1, metric, &place));
        x += 1;
        if x == COLUMNS {
            (x, y) = (0, y + HEIGHT);
        }
    }
    json!({
        "uid": "imagepool",
        "title": "imagepool",
        "description": "Made from the list of metrics by scripts/grafana/make; do not change it by hand.",
        "tags": ["imagepool"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [
            { "name": "source", "label": "Data source", "type": "datasource", "query": "prometheus" },
            {
                "name": "model", "label": "Model", "type": "query", "datasource": source(),
                "query": format!("label_values({PREFIX}queue_depth, model)"),
                "refresh": 2, "multi": true, "includeAll": true, "allValue": ".*",
                "current": { "text": "All", "value": "$__all" },
            },
        ] },
        "panels": panels,
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${source}" })
}

fn panel(id: usize, metric: &MetricDescription, place: &Value) -> Value {
    let queries = queries(metric);
    let is_info = metric.name.ends_with("_info");
    let targets = ('A'..).zip(&queries).map(|(letter, (query, legend))| {
        json!({
            "refId": letter.to_string(), "expr": query, "legendFormat": legend,
            "instant": is_info, "format": if is_info { "table" } else { "time_series" },
        })
    });
    json!({
        "id": id,
        "type": if is_info { "table" } else { "timeseries" },
        "title": title(metric),
        "description": format!("{} ({PREFIX}{})", metric.help, metric.name),
        "datasource": source(),
        "gridPos": place,
        "fieldConfig": { "defaults": { "unit": unit(metric), "min": 0 }, "overrides": [] },
        "targets": targets.collect::<Vec<_>>(),
    })
}

/// The queries of a panel, each with its legend.
fn queries(metric: &MetricDescription) -> Vec<(String, String)> {
    let name = format!("{PREFIX}{}", metric.name);
    let filter = match metric.labels.contains(&"model") {
        true => "{model=~\"$model\"}",
        false => "",
    };
    let labels = metric.labels.join(", ");
    let legend: Vec<String> = metric
        .labels
        .iter()
        .map(|label| format!("{{{{{label}}}}}"))
        .collect();
    let legend = legend.join(" ");
    match metric.kind {
        MetricKind::Gauge => vec![(format!("{name}{filter}"), legend)],
        MetricKind::Counter => {
            let rate = format!("rate({name}{filter}[$__rate_interval])");
            let query = match metric.labels {
                [] => rate,
                _ => format!("sum by ({labels}) ({rate})"),
            };
            vec![(query, legend)]
        }
        MetricKind::Histogram => [("0.5", "median"), ("0.95", "95 %")]
            .map(|(share, word)| {
                let rate = format!("rate({name}_bucket{filter}[$__rate_interval])");
                let query = format!("histogram_quantile({share}, sum by (le, {labels}) ({rate}))");
                (query, format!("{legend} {word}"))
            })
            .into(),
    }
}

/// The name in words, without its unit.
fn title(metric: &MetricDescription) -> String {
    let name = metric
        .name
        .trim_end_matches("_total")
        .trim_end_matches("_info");
    let units = ["_seconds", "_bytes", "_joules", "_celsius", "_watts"];
    let bare = units.iter().find_map(|unit| name.strip_suffix(unit));
    let words = bare.unwrap_or(name).replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let per_second = match metric.kind {
        MetricKind::Counter => " per second",
        MetricKind::Gauge | MetricKind::Histogram => "",
    };
    first
        .into_iter()
        .chain(letters)
        .chain(per_second.chars())
        .collect()
}

/// Grafana's word for the unit.
fn unit(metric: &MetricDescription) -> &'static str {
    let units = [
        ("_seconds", "s"),
        ("_bytes", "bytes"),
        ("_joules", "joule"),
        ("_celsius", "celsius"),
        ("_watts", "watt"),
    ];
    let found = units.iter().find(|(end, _)| metric.name.ends_with(end));
    found.map_or("short", |(_, unit)| unit)
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let made = format!("{:#}\n", dashboard());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).expect("the checkout can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("scripts/grafana/make wrote it");
    assert_eq!(
        kept, made,
        "run scripts/grafana/make after a change of the metrics"
    );
    for (first, _) in ROWS {
        let mut all = ALL.iter().map(|metric| metric.describe().name);
        assert!(all.any(|name| name == first), "no row begins with {first}");
    }
}
