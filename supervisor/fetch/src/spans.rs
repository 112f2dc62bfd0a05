//! Sends spans to a collector: one line of JSON on stdin is one span, in the form of OTLP. The daemon starts this program so,
//! because it has no HTTP client itself.
//!
//! Reports on stdout: `sent COUNT` or `dropped COUNT WHY` for each batch. Ends soon after its stdin.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde_json::json;
use tokio::runtime;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};

use crate::http::{is_transient, reasons};

/// Path of traces below the collector's address.
const PATH: [&str; 2] = ["v1", "traces"];
/// Most spans of one request.
const BATCH_MAX: usize = 512;
/// How long a batch waits for further spans.
const BATCH_WAIT: Duration = Duration::from_millis(500);
/// Spans that wait for a slow collector; beyond them the daemon's own queue fills.
const WAITING_MAX: usize = 2048;
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Tries of one batch, and the pause after the first; it doubles with each.
const TRIES_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// How long the rest may take once stdin has ended.
const GOODBYE: Duration = Duration::from_millis(1500);

/// A collector of spans.
struct Collector {
    client: Client,
    address: Url,
    /// The facts about the daemon in every request.
    resource: serde_json::Value,
}

/// Sends spans until stdin ends. `daemon` is the process that they are about.
pub fn run(endpoint: &str, daemon: u32) -> ExitCode {
    let collector = match Collector::at(endpoint, daemon) {
        Ok(collector) => collector,
        Err(error) => return refuse(&error),
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.to_string()),
    };
    let (sender, spans) = mpsc::channel(WAITING_MAX);
    let (ended, end) = mpsc::channel(1);
    let reading = thread::Builder::new()
        .name("stdin".into())
        .spawn(move || read(&sender, ended));
    if let Err(error) = reading {
        return refuse(&error.to_string());
    }
    runtime.block_on(async {
        tokio::select! {
            () = send_all(&collector, spans) => {}
            () = too_late(end) => {}
        }
    });
    ExitCode::SUCCESS
}

fn refuse(error: &str) -> ExitCode {
    report(format_args!("dropped 0 cannot send traces: {error}"));
    ExitCode::FAILURE
}

/// Reads spans to the end of stdin; `ended` is dropped then.
fn read(spans: &Sender<String>, ended: Sender<()>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else {
            break;
        };
        if spans.blocking_send(line).is_err() {
            break;
        }
    }
    drop(ended);
}

/// Ends a while after stdin did.
async fn too_late(mut end: Receiver<()>) {
    let _ = end.recv().await; // Its sender sends nothing.
    sleep(GOODBYE).await;
}

async fn send_all(collector: &Collector, mut spans: Receiver<String>) {
    while let Some(batch) = next_batch(&mut spans).await {
        let count = batch.len();
        match collector.send(&batch).await {
            Ok(()) => report(format_args!("sent {count}")),
            Err(why) => report(format_args!("dropped {count} {}", one_line(&why))),
        }
    }
}

/// The next spans; `None` at their end.
async fn next_batch(spans: &mut Receiver<String>) -> Option<Vec<String>> {
    let mut batch = vec![spans.recv().await?];
    let more = async {
        while batch.len() < BATCH_MAX {
            match spans.recv().await {
                Some(span) => batch.push(span),
                None => break,
            }
        }
    };
    // Either the batch is full, or the time is over.
    let _ = timeout(BATCH_WAIT, more).await;
    Some(batch)
}

impl Collector {
    fn at(endpoint: &str, daemon: u32) -> Result<Self, String> {
        let client = Client::builder()
            .user_agent(concat!("imagepool/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .build();
        let mut address = Url::parse(endpoint).map_err(|error| error.to_string())?;
        let mut segments = address
            .path_segments_mut()
            .map_err(|()| "not the address of a host".to_owned())?;
        segments.pop_if_empty().extend(PATH);
        drop(segments);
        let text =
            |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            address,
            resource: json!({ "attributes": [
                text("service.name", "imagepool"),
                text("service.version", env!("CARGO_PKG_VERSION")),
                { "key": "process.pid", "value": { "intValue": daemon.to_string() } },
            ] }),
        })
    }

    /// The body of a request with these spans, each one JSON already.
    fn body(&self, spans: &[String]) -> String {
        let resource = &self.resource;
        let spans = spans.join(",");
        format!(
            r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{{"name":"imagepool"}},"spans":[{spans}]}}]}}]}}"#
        )
    }

    /// Sends a batch; tries again after a transient refusal.
    async fn send(&self, spans: &[String]) -> Result<(), String> {
        let body = self.body(spans);
        let mut pause = PAUSE;
        for _ in 1..TRIES_MAX {
            match self.try_once(body.clone()).await {
                Err((true, _)) => {}
                Err((false, why)) => return Err(why),
                Ok(()) => return Ok(()),
            }
            sleep(pause).await;
            pause *= 2;
        }
        self.try_once(body).await.map_err(|(_, why)| why)
    }

    /// Sends a batch once. An error says whether another try may help, and why it failed.
    async fn try_once(&self, body: String) -> Result<(), (bool, String)> {
        let request = self.client.post(self.address.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = match timeout(ANSWER_MAX, request.send()).await {
            Ok(answer) => answer.map_err(|error| (true, reasons(&error)))?,
            Err(_) => {
                let seconds = ANSWER_MAX.as_secs();
                return Err((
                    true,
                    format!("the collector gives no answer for {seconds} s"),
                ));
            }
        };
        let status: StatusCode = answer.status();
        match status.is_success() {
            true => Ok(()),
            false => Err((
                is_transient(status),
                format!("the collector answers {status}"),
            )),
        }
    }
}

/// A sentence without control characters, of bounded length.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// Prints a report; exits if no process reads them any more.
fn report(line: std::fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if printed.is_err() {
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_to_the_path_of_traces_below_the_address() {
        for (endpoint, address) in [
            ("http://host:4318", "http://host:4318/v1/traces"),
            ("http://host:4318/", "http://host:4318/v1/traces"),
            ("https://host/otlp", "https://host/otlp/v1/traces"),
        ] {
            let collector = Collector::at(endpoint, 1).expect("an address");
            assert_eq!(collector.address.as_str(), address);
        }
        assert!(Collector::at("mailto:a@b", 1).is_err());
    }

    #[test]
    fn a_request_holds_its_spans_and_the_facts_about_the_daemon() {
        let collector = Collector::at("http://host", 4711).expect("an address");
        let spans = [
            r#"{"name":"job"}"#.to_owned(),
            r#"{"name":"queue"}"#.to_owned(),
        ];
        let body: serde_json::Value =
            serde_json::from_str(&collector.body(&spans)).expect("it is JSON");
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["scopeSpans"][0]["spans"][1]["name"], "queue");
        assert_eq!(
            resource["resource"]["attributes"][2]["value"]["intValue"],
            "4711"
        );
    }
}
