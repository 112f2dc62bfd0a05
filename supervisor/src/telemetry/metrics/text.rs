//! Writes the text format, version 0.0.4.

use std::fmt::Write;

use super::description::{MetricDescription, PREFIX};

/// Writes the HELP and TYPE lines of a metric.
pub(super) fn head(text: &mut String, metric: &MetricDescription) {
    let MetricDescription { name, help, .. } = metric;
    let kind = metric.kind.word();
    push(
        text,
        format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"),
    );
}

/// Writes one line: the name without its prefix, labels with their values, the value.
pub(super) fn sample<'a>(
    text: &mut String,
    name: impl std::fmt::Display,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    value: f64,
) {
    push(text, format_args!("{PREFIX}{name}"));
    let mut sign = '{';
    for (label, value) in labels {
        push(text, format_args!("{sign}{label}=\"{}\"", escaped(value)));
        sign = ',';
    }
    if sign == ',' {
        text.push('}');
    }
    push(text, format_args!(" {value}\n"));
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a String cannot fail");
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    let mut safe = String::with_capacity(value.len());
    for sign in value.chars() {
        match sign {
            '\\' => safe.push_str("\\\\"),
            '"' => safe.push_str("\\\""),
            '\n' => safe.push_str("\\n"),
            sign => safe.push(sign),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        let mut text = String::new();
        sample(&mut text, "a", [("b", "\"} 1\n\\"), ("c", "d")], 0.5);
        assert_eq!(text, "imagepool_a{b=\"\\\"} 1\\n\\\\\",c=\"d\"} 0.5\n");
        let mut text = String::new();
        sample(&mut text, "a", [], 3.0);
        assert_eq!(text, "imagepool_a 3\n");
    }
}
