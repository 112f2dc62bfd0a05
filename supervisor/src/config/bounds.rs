//! The table of all settings and their valid values, checked before the file is read further.

use super::http::{self, HttpRight};
use super::operators::OPERATORS_MAX;
use ipc_protocol::family;
use ipc_protocol::ids::{Device, DeviceConstraint};
use ipc_protocol::request::TEXT_BYTES_MAX;
use toml::{Table, Value};

/// Most workers of one model, in settings and in commands.
pub const WORKERS_MAX: i64 = 64;
/// Most threads of one worker's arithmetic.
const THREADS_MAX: i64 = 1024;
/// A year, in seconds. Longer durations are refused as mistakes.
const YEAR: f64 = 31_536_000.0;
/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// 64 TiB, in MiB; more than one machine has.
const MEMORY_MB_MAX: i64 = 64 << 20;
/// Highest ordinal of an accelerator.
const ORDINAL_MAX: u32 = 255;
/// Most characters of an invalid value that an error repeats.
const SHOWN_MAX: usize = 80;

/// A setting and its valid values.
#[derive(Debug)]
pub struct Setting {
    /// Section of the file; `*` stands for the key of a model, empty for the top of the file.
    pub section: &'static str,
    /// Name in the section.
    pub name: &'static str,
    /// Valid values.
    pub kind: SettingKind,
}

/// The valid values of a setting.
#[derive(Debug, Clone, Copy)]
pub enum SettingKind {
    /// Whole numbers, from the first to the second.
    Whole(i64, i64),
    /// Seconds, from the first to the second; fractions are allowed.
    Seconds(f64, f64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A text that is not empty. The value describes it for errors.
    Text(&'static str),
    /// An http or https address without user name and password.
    Address,
    /// `auto`, `cpu` or `cuda:N`.
    Device,
    /// A list of users, by name or user id.
    Users,
    /// The table `params`, whose settings have their own section.
    Parameters,
    /// A list of rights at the HTTP door.
    Rights,
    /// A list of texts without blanks. The value describes one of them for errors.
    Names(&'static str),
    /// A program and its arguments.
    Arguments,
    /// `HOST:PORT`.
    Listen,
}

use SettingKind::{Address, Arguments, Flag, Names, Rights, Seconds, Text, Whole, Words};

const fn setting(section: &'static str, name: &'static str, kind: SettingKind) -> Setting {
    Setting {
        section,
        name,
        kind,
    }
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    setting("", "default_model", Text("the name of a model")),
    setting("", "segment", Words(&["sealed", "named"])),
    setting("", "sandbox", Flag),
    setting("socket", "mode", Words(&["0600", "0660"])),
    setting("socket", "operators", SettingKind::Users),
    setting("http", "listen", SettingKind::Listen),
    setting("http", "hosts", Names("a host name")),
    setting("http", "origins", Names("an origin")),
    setting("http", "anonymous", Rights),
    setting("http", "aliases", Names("the name of a model")),
    setting("http", "a1111", Flag),
    setting("http.tokens.*", "file", Text("the path of a file")),
    setting(
        "http.tokens.*",
        "credential",
        Text("the name of a credential"),
    ),
    setting("http.tokens.*", "rights", Rights),
    setting("memory", "limit_percent", Whole(1, 100)),
    setting("memory", "host_limit_mb", Whole(1, MEMORY_MB_MAX)),
    setting("memory", "device_limit_mb", Whole(1, MEMORY_MB_MAX)),
    setting("memory", "control_groups", Words(&["auto", "on", "off"])),
    setting("gpu", "library", Text("the path of a library")),
    setting("pool", "cold_start_workers", Whole(1, WORKERS_MAX)),
    setting("pool", "max_workers_per_model", Whole(1, WORKERS_MAX)),
    setting("pool", "max_starting_workers", Whole(1, WORKERS_MAX)),
    setting("pool", "min_workers", Whole(0, WORKERS_MAX)),
    setting("pool", "grow_after_seconds", Seconds(0.0, YEAR)),
    setting("pool", "idle_seconds", Seconds(0.0, YEAR)),
    setting("pool", "queue_per_model", Whole(1, 100_000)),
    setting("pool", "queue_total", Whole(1, 100_000)),
    setting("pool", "drain_seconds", Seconds(0.0, YEAR)),
    setting("pool", "max_attempts", Whole(1, 10)),
    setting("pool", "quarantine_seconds", Seconds(1.0, 30.0 * 86_400.0)),
    setting("pool", "max_overtakes", Whole(0, 100_000)),
    setting("pool", "max_overtake_seconds", Seconds(0.0, YEAR)),
    setting("pool", "result_seconds", Seconds(0.0, YEAR)),
    setting("pool", "fifo", Flag),
    setting("limits", "prompt_bytes", Whole(1, TEXT_BYTES_MAX as i64)),
    setting("limits", "max_pixels", Whole(64 * 64, 1 << 28)),
    setting("limits", "result_mb", Whole(1, 1 << 20)),
    setting("pictures", "metadata", Flag),
    setting("hub", "offline", Flag),
    setting("hub", "endpoint", Address),
    setting("hub", "folder", Text("the path of a folder")),
    setting("hub", "patience_seconds", Seconds(0.001, 86_400.0)),
    setting("telemetry", "otlp", Address),
    setting("telemetry", "obituaries", Whole(1, 10_000)),
    setting("truce", "before_load", Arguments),
    setting("truce", "before_load_url", Address),
    setting("truce", "before_load_body", Text("a body")),
    setting("truce", "after_last", Arguments),
    setting("truce", "after_last_url", Address),
    setting("truce", "after_last_body", Text("a body")),
    setting("truce", "patience_seconds", Seconds(0.1, 20.0)),
    setting("users.*", "jobs_per_hour", Whole(1, 1_000_000)),
    setting("users.*", "models", Names("the name of a model")),
    setting("users.*", "priority_max", Words(&["high", "normal", "low"])),
    setting("models.*", "family", Words(&family::WORDS)),
    setting("models.*", "path", Text("the path of a folder")),
    setting("models.*", "variant", Text("the name of a variant")),
    setting("models.*", "revision", Text("a branch, a tag or a commit")),
    setting("models.*", "pinned", Flag),
    setting("models.*", "min_workers", Whole(0, WORKERS_MAX)),
    setting("models.*", "max_workers", Whole(1, WORKERS_MAX)),
    setting("models.*", "device", SettingKind::Device),
    setting("models.*", "threads", Whole(1, THREADS_MAX)),
    setting("models.*", "dtype", Words(&["f32", "bf16", "f16"])),
    setting("models.*", "encoders", Words(&["keep", "drop", "cpu"])),
    setting("models.*", "params", SettingKind::Parameters),
    setting("models.*.params", "step_ms", Whole(0, HOUR_MS)),
    setting("models.*.params", "load_ms", Whole(0, HOUR_MS)),
    setting("models.*.params", "weights_mb", Whole(0, 1 << 20)),
    setting("models.*.params", "device_mb", Whole(0, 1 << 20)),
];

/// Checks the values of all known settings in a file.
///
/// # Errors
/// `SECTION.FIELD = VALUE is not …: use …` for the first invalid value.
pub fn check(file: &Table) -> Result<(), String> {
    section("", file, "")?;
    for (name, value) in file {
        match (name.as_str(), value) {
            ("models", Value::Table(models)) => models
                .iter()
                .try_for_each(|(key, value)| model(key, value))?,
            ("users", Value::Table(users)) => sections("users", users)?,
            ("http", Value::Table(table)) => http_section(table)?,
            (_, Value::Table(table)) => section(name, table, name)?,
            (_, value) if is_section(name) => return Err(no_section(name, value)),
            _ => {}
        }
    }
    Ok(())
}

fn model(key: &str, value: &Value) -> Result<(), String> {
    let place = format!("models.{key}");
    let Value::Table(table) = value else {
        return Err(no_section(&place, value));
    };
    section("models.*", table, &place)?;
    match table.get("params") {
        Some(Value::Table(params)) => {
            section("models.*.params", params, &format!("{place}.params"))
        }
        Some(_) | None => Ok(()),
    }
}

fn http_section(table: &Table) -> Result<(), String> {
    section("http", table, "http")?;
    let tokens = match table.get("tokens") {
        None => return Ok(()),
        Some(Value::Table(tokens)) => tokens,
        Some(value) => return Err(no_section("http.tokens", value)),
    };
    sections("http.tokens", tokens)
}

/// Checks the sections `[OF.NAME]`.
fn sections(of: &str, tables: &Table) -> Result<(), String> {
    tables.iter().try_for_each(|(name, value)| {
        let place = format!("{of}.{name}");
        match value {
            Value::Table(table) => section(&format!("{of}.*"), table, &place),
            value => Err(no_section(&place, value)),
        }
    })
}

/// Checks the settings of one section, which errors call `place`.
fn section(pattern: &str, table: &Table, place: &str) -> Result<(), String> {
    let known = |name: &String| {
        let is = |setting: &&Setting| setting.section == pattern && setting.name == name;
        SETTINGS.iter().find(is)
    };
    for (name, value) in table {
        let Some(setting) = known(name) else {
            continue; // serde refuses unknown names later.
        };
        let at = match place {
            "" => name.clone(),
            place => format!("{place}.{name}"),
        };
        setting.kind.check(&at, value)?;
    }
    Ok(())
}

fn is_section(name: &str) -> bool {
    matches!(name, "models" | "users") || SETTINGS.iter().any(|setting| setting.section == name)
}

fn no_section(place: &str, value: &Value) -> String {
    refusal(place, &shown(value), "a section", &format!("[{place}]"))
}

impl SettingKind {
    fn check(self, at: &str, value: &Value) -> Result<(), String> {
        let wrong = |what: &str| Err(refusal(at, &shown(value), what, &self.allowed()));
        match (self, value) {
            (Self::Whole(least, most), Value::Integer(number)) => {
                match (least..=most).contains(number) {
                    true => Ok(()),
                    false => wrong("in its range"),
                }
            }
            (Self::Whole(..), _) => wrong("a whole number"),
            (Self::Seconds(least, most), Value::Float(_) | Value::Integer(_)) => {
                // No range contains NaN.
                match (least..=most).contains(&number(value)) {
                    true => Ok(()),
                    false => wrong("a duration"),
                }
            }
            (Self::Seconds(..), _) => wrong("a duration"),
            (Self::Flag, Value::Boolean(_)) => Ok(()),
            (Self::Flag, _) => wrong("true or false"),
            (Self::Words(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            (Self::Words(_), _) => wrong("a known word"),
            (Self::Text(_), Value::String(text)) if is_name(text) => Ok(()),
            (Self::Text(what), _) => wrong(what),
            (Self::Address, Value::String(text)) if is_address(text) => Ok(()),
            // The message leaves out the value, which may contain a password.
            (Self::Address, _) => Err(format!(
                "{at} is not a plain address: use {}",
                self.allowed()
            )),
            (Self::Device, Value::String(text)) if is_device(text) => Ok(()),
            (Self::Device, _) => wrong("a device"),
            (Self::Users, Value::Array(users)) if users.len() <= OPERATORS_MAX => {
                match users.iter().find(|user| !is_user(user)) {
                    None => Ok(()),
                    Some(user) => Err(refusal(at, &shown(user), "a user", &self.allowed())),
                }
            }
            (Self::Users, _) => wrong("a list of users"),
            (Self::Rights, Value::Array(rights)) => {
                match rights.iter().find(|right| !is_right(right)) {
                    None => Ok(()),
                    Some(right) => Err(refusal(at, &shown(right), "a right", &self.allowed())),
                }
            }
            (Self::Rights, _) => wrong("a list of rights"),
            (Self::Names(what), Value::Array(names)) => {
                match names.iter().find(|name| !is_one_word(name)) {
                    None => Ok(()),
                    Some(name) => Err(refusal(at, &shown(name), what, &self.allowed())),
                }
            }
            (Self::Names(_), _) => wrong("a list of names"),
            (Self::Arguments, Value::Array(words)) => match words.iter().all(Value::is_str) {
                true => Ok(()),
                false => wrong("a list of texts"),
            },
            (Self::Arguments, _) => wrong("a program and its arguments"),
            (Self::Listen, Value::String(text)) if http::is_host_and_port(text) => Ok(()),
            (Self::Listen, _) => wrong("a host and a port"),
            (Self::Parameters, Value::Table(_)) => Ok(()),
            (Self::Parameters, _) => wrong("a table"),
        }
    }

    /// The valid values, as errors describe them.
    fn allowed(self) -> String {
        match self {
            Self::Whole(least, most) => format!("{least} to {most}"),
            Self::Seconds(least, most) => format!("seconds, {least} to {most}"),
            Self::Flag => "true or false".into(),
            Self::Words(words) => words.join(" or "),
            Self::Text(_) => "a text of one line that is not empty".into(),
            Self::Address => "http://HOST or https://HOST, without credentials".into(),
            Self::Users => format!("[\"NAME\", NUMBER, \"@GROUP\", …], {OPERATORS_MAX} at most"),
            Self::Parameters => {
                "{ step_ms = 10, load_ms = 10, weights_mb = 16, device_mb = 0 }".into()
            }
            Self::Rights => format!("a list of {}", HttpRight::WORDS.join(", ")),
            Self::Names(_) => "[\"NAME\", …], none with blanks".into(),
            Self::Arguments => "[\"PROGRAM\", \"ARGUMENT\", …]".into(),
            Self::Listen => "HOST:PORT, as in 127.0.0.1:7860".into(),
            Self::Device => format!("auto, cpu or cuda:N, N from 0 to {ORDINAL_MAX}"),
        }
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        _ => f64::NAN,
    }
}

/// Whether a text is not blank and has no control characters.
fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(|c: char| c.is_control())
}

fn is_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '@';
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with(['/', ':', '?']) && rest.chars().all(plain)
    })
}

fn is_user(value: &Value) -> bool {
    match value {
        Value::Integer(number) => u32::try_from(*number).is_ok(),
        Value::String(name) => is_name(name),
        _ => false,
    }
}

fn is_right(value: &Value) -> bool {
    matches!(value, Value::String(word) if HttpRight::WORDS.contains(&word.as_str()))
}

fn is_one_word(value: &Value) -> bool {
    let plain = |text: &str| is_name(text) && !text.contains(char::is_whitespace);
    matches!(value, Value::String(text) if plain(text))
}

fn is_device(text: &str) -> bool {
    match text.parse() {
        Ok(DeviceConstraint::On(Device::Cuda(ordinal))) => ordinal <= ORDINAL_MAX,
        Ok(DeviceConstraint::Auto | DeviceConstraint::On(Device::Host)) => true,
        Err(_) => false,
    }
}

fn refusal(at: &str, value: &str, what: &str, instead: &str) -> String {
    format!("{at} = {value} is not {what}: use {instead}")
}

/// Formats a value on one line, as errors repeat it.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(date) => date.to_string(),
        Value::Array(_) => "[…]".into(),
        Value::Table(_) => "{…}".into(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::parse;
    use super::*;

    /// Invalid values for a setting of this kind, as TOML.
    fn nonsense(kind: SettingKind) -> Vec<String> {
        let mut values: Vec<String> = ["[1]", "1979-05-27"].map(str::to_owned).into();
        let more: &[&str] = match kind {
            SettingKind::Whole(least, most) => {
                values.push((least - 1).to_string());
                values.push((most + 1).to_string());
                &[
                    "-1",
                    "9223372036854775807",
                    "1.5",
                    "nan",
                    "inf",
                    "\"1\"",
                    "true",
                ]
            }
            SettingKind::Seconds(least, most) => {
                values.push((least - 0.5).to_string());
                values.push((most * 2.0).to_string());
                &["-1", "1e300", "nan", "inf", "-inf", "\"1\"", "true"]
            }
            SettingKind::Flag => &["0", "1", "\"true\""],
            SettingKind::Words(_) => &["\"\"", "\"other\"", "3", "true"],
            SettingKind::Users => {
                values.remove(0);
                &[
                    "[-1]",
                    "[4294967296]",
                    "[\"\"]",
                    "[1.5]",
                    "\"root\"",
                    "[[1]]",
                ]
            }
            SettingKind::Parameters => &["3", "\"x\""],
            SettingKind::Rights => &["[\"all\"]", "[3]", "\"generate\"", "true"],
            SettingKind::Names(_) => &["[\"\"]", "[\"a b\"]", "[3]", "\"a\"", "true"],
            SettingKind::Arguments => &["[3]", "\"a\"", "true"],
            SettingKind::Listen => &[
                "\"\"",
                "\"7860\"",
                "\"host:\"",
                "\"host:70000\"",
                "\"a b:1\"",
                "80",
            ],
            SettingKind::Text(_) => &["\"\"", "\" \"", "\"a\\nb\"", "3", "true"],
            SettingKind::Address => &["\"\"", "\"host\"", "\"ftp://a\"", "\"https://\"", "3"],
            SettingKind::Device => &[
                "\"\"",
                "\"gpu\"",
                "\"cuda:\"",
                "\"cuda:-1\"",
                "\"cuda:4000000000\"",
                "0",
            ],
        };
        values.extend(more.iter().map(|value| (*value).to_owned()));
        values
    }

    #[test]
    fn every_setting_refuses_invalid_values_with_its_name_and_the_valid_ones() {
        for Setting {
            section,
            name,
            kind,
        } in SETTINGS
        {
            let section = section.replace('*', "mine");
            let header = match section.as_str() {
                "" => String::new(),
                section => format!("[{section}]\n"),
            };
            let full = match section.as_str() {
                "" => (*name).to_owned(),
                section => format!("{section}.{name}"),
            };
            for value in nonsense(*kind) {
                let text = format!("{header}{name} = {value}\n");
                let error = parse(&text).expect_err(&text);
                assert!(error.contains(&full), "{text} gives {error}");
                assert!(error.contains(": use "), "{text} gives {error}");
                assert!(!error.contains('\n'), "{text} gives {error}");
            }
        }
    }

    #[test]
    fn the_table_and_the_example_name_the_same_settings() {
        let example = include_str!("../../../imagepool.example.toml");
        let mut section = String::new();
        let mut named = BTreeSet::new();
        for line in example.lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.split(']').next())
            {
                section = match name.rsplit_once('.') {
                    Some((of, _)) => format!("{of}.*"),
                    None => name.into(),
                };
            } else if let Some((name, value)) = line.split_once(" = ") {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if name.chars().all(plain) {
                    named.insert((section.clone(), name.to_owned()));
                }
                let inner = value.strip_prefix('{').unwrap_or_default();
                for (name, _) in inner.split(',').filter_map(|part| part.split_once(" = ")) {
                    named.insert((format!("{section}.params"), name.trim().to_owned()));
                }
            }
        }
        let table = SETTINGS.iter();
        let table = table.map(|s| (s.section.to_owned(), s.name.to_owned()));
        assert_eq!(named, table.collect());
    }

    #[test]
    fn a_number_that_toml_cannot_hold_is_refused_with_its_line() {
        let error = parse("[pool]\nqueue_per_model = 99999999999999999999999\n");
        let error = error.expect_err("more than 64 bits");
        assert!(error.contains("line 2: queue_per_model = 9999"), "{error}");
    }

    #[test]
    fn a_value_in_place_of_a_section_is_refused_with_the_header_to_use() {
        for (text, header) in [
            ("pool = 3", "[pool]"),
            ("[models]\nmine = 3", "[models.mine]"),
        ] {
            let error = parse(text).expect_err("no section");
            assert!(
                error.ends_with(&format!("is not a section: use {header}")),
                "{error}"
            );
        }
    }

    #[test]
    fn both_ends_of_a_range_are_valid() {
        let text = "[pool]\nmax_workers_per_model = 64\nmin_workers = 64\nidle_seconds = 0\n\
                    drain_seconds = 31536000\n[limits]\nprompt_bytes = 61440\n";
        parse(text).expect("each is the end of its range");
    }
}
