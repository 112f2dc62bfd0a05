//! A collector gets a span for each phase and attempt of a job, and costs no picture.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::job::{self, request};
use tests::program::PATIENCE;
use tests::{processes, wait};

const MODEL: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\n\
    params = { step_ms = 20, load_ms = 30, weights_mb = 1 }\n";

/// A collector of OTLP over HTTP on a port of its own.
struct TestCollector {
    address: String,
    bodies: Receiver<Value>,
}

impl TestCollector {
    /// Answers each request with `status`.
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, bodies) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                thread::spawn(move || serve(stream, status, &sender));
            }
        });
        Self {
            address: format!("http://{address}"),
            bodies,
        }
    }

    fn settings(&self) -> String {
        format!("{MODEL}[telemetry]\notlp = \"{}\"\n", self.address)
    }

    /// Waits until `count` spans with this name have come; returns all that came, by trace.
    fn spans(&self, name: &str, count: usize) -> Vec<Value> {
        let mut spans: Vec<Value> = Vec::new();
        while spans.iter().filter(|span| span["name"] == name).count() < count {
            let body = self.bodies.recv_timeout(PATIENCE).expect("further spans");
            let resource = &body["resourceSpans"][0];
            let name = &resource["resource"]["attributes"][0]["value"]["stringValue"];
            assert_eq!(name, "imagepool");
            let more = resource["scopeSpans"][0]["spans"].as_array();
            spans.extend(more.expect("a list").iter().cloned());
        }
        spans
    }
}

/// Reads requests, one after the other, and answers each.
fn serve(stream: TcpStream, status: &str, bodies: &Sender<Value>) {
    let mut writer = stream.try_clone().expect("our own socket");
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => head.push(line.trim().to_lowercase()),
            }
        }
        assert!(head[0].starts_with("post /v1/traces "), "{head:?}");
        assert!(
            head.contains(&"content-type: application/json".to_owned()),
            "{head:?}"
        );
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let _ = bodies.send(serde_json::from_slice(&body).expect("JSON")); // The test may have ended.
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().expect("a list");
    let found = all.iter().find(|attribute| attribute["key"] == key);
    let value = found.unwrap_or_else(|| panic!("{key} in {span}"))["value"].as_object();
    value
        .and_then(|value| value.values().next())
        .expect("a value")
}

fn ns(span: &Value, field: &str) -> u64 {
    let text = span[field].as_str().expect("a text");
    text.parse().expect("a number")
}

/// Checks that every span but one lies within its parent; returns the one whose parent is not among them.
fn check_tree(spans: &[Value]) -> &Value {
    let ids: BTreeMap<&str, &Value> = spans
        .iter()
        .map(|span| (span["spanId"].as_str().expect("an id"), span))
        .collect();
    let mut roots = Vec::new();
    for span in spans {
        assert!(
            ns(span, "startTimeUnixNano") <= ns(span, "endTimeUnixNano"),
            "{span}"
        );
        match span["parentSpanId"]
            .as_str()
            .and_then(|parent| ids.get(parent))
        {
            None => roots.push(span),
            Some(parent) => {
                assert!(ns(parent, "startTimeUnixNano") <= ns(span, "startTimeUnixNano"));
                assert!(ns(span, "endTimeUnixNano") <= ns(parent, "endTimeUnixNano"));
                assert_eq!(parent["traceId"], span["traceId"]);
            }
        }
    }
    assert_eq!(roots.len(), 1, "{roots:?}");
    roots[0]
}

fn names(spans: &[Value]) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    for span in spans {
        *names
            .entry(span["name"].as_str().expect("a name"))
            .or_default() += 1;
    }
    names
}

#[test]
fn a_job_that_lost_a_worker_has_a_span_for_each_phase_and_attempt() {
    let collector = TestCollector::start("200 OK");
    let daemon = TestDaemon::start(&collector.settings());
    let mut killed = None;
    let drawn = job::draw(&mut daemon.client(), &request("syn", 8, 9), |id, step| {
        if step == 3 && killed.is_none() {
            killed = daemon.worker_of(id).and_then(|worker| worker.pid);
            processes::signal(killed.expect("it runs somewhere"), Signal::SIGKILL);
        }
    });
    let picture = drawn.expect("another worker continues it");
    let spans = collector.spans("decode", 1);
    let root = check_tree(&spans);
    assert_eq!(root["name"], "job");
    assert_eq!(attribute(root, "imagepool.job"), &picture.job.0.to_string());
    assert_eq!(attribute(root, "imagepool.outcome"), "finished");
    let names = names(&spans);
    for (name, count) in [
        ("job", 1),
        ("load", 1),
        ("attempt", 2),
        ("encode", 1),
        ("denoise", 1),
    ] {
        assert_eq!(names[name], count, "{name} in {names:?}");
    }
    let of = |name: &'static str| spans.iter().filter(move |span| span["name"] == name);
    let outcomes: Vec<&Value> = of("attempt")
        .map(|span| attribute(span, "imagepool.outcome"))
        .collect();
    assert_eq!(outcomes, ["worker_lost", "finished"]);
    let lost = of("attempt").next().expect("the first");
    assert_eq!(lost["status"]["code"], 2);
    let denoise = of("denoise").next().expect("counted above");
    let steps = denoise["events"].as_array().expect("a list");
    let all = steps.len() + lost["events"].as_array().expect("a list").len();
    assert_eq!(all, 8, "each step is an event once");
    let took = ns(denoise, "endTimeUnixNano") - ns(denoise, "startTimeUnixNano");
    let least = Duration::from_millis(20) * u32::try_from(steps.len()).expect("few");
    assert!(
        u128::from(took) >= least.as_nanos(),
        "{took} ns for {} steps",
        steps.len()
    );
    let all = serde_json::to_string(&spans).expect("texts");
    assert!(
        !all.contains(&request("syn", 8, 9).prompt),
        "a prompt is private"
    );
}

#[test]
fn a_refused_span_is_reported_and_costs_no_picture() {
    let collector = TestCollector::start("400 Bad Request");
    let daemon = TestDaemon::start(&collector.settings());
    job::draw(&mut daemon.client(), &request("syn", 2, 1), |_, _| {}).expect("a picture");
    let line = daemon.stderr.wait_for("Spans dropped", 1, PATIENCE);
    assert!(
        line.contains("reason=not_taken") && line.contains("400"),
        "{line}"
    );
}

#[test]
fn a_collector_that_is_not_there_costs_no_picture_and_the_program_ends_with_the_daemon() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let daemon = TestDaemon::start(&format!(
        "{MODEL}[telemetry]\notlp = \"http://{address}\"\n"
    ));
    for seed in 0..3 {
        job::draw(&mut daemon.client(), &request("syn", 2, seed), |_, _| {}).expect("a picture");
    }
    daemon.stderr.wait_for("Spans dropped", 1, PATIENCE);
    let sandbox = Arc::clone(&daemon.sandbox);
    let exporters = || -> Vec<processes::Process> {
        let all = sandbox.processes().into_iter();
        all.filter(|process| {
            process
                .arguments
                .iter()
                .any(|argument| argument == "--export-spans")
        })
        .collect()
    };
    assert_eq!(exporters().len(), 1);
    processes::signal(daemon.pid(), Signal::SIGKILL);
    assert!(wait::until(Duration::from_secs(1), || exporters().is_empty()));
}

#[test]
fn the_last_spans_are_sent_before_the_daemon_ends() {
    let collector = TestCollector::start("200 OK");
    let mut daemon = TestDaemon::start(&collector.settings());
    job::draw(&mut daemon.client(), &request("syn", 2, 1), |_, _| {}).expect("a picture");
    daemon.imagepool(&["shutdown"]).succeeded();
    daemon.wait();
    check_tree(&collector.spans("decode", 1));
}

#[test]
fn a_job_is_part_of_the_trace_of_its_http_request() {
    let collector = TestCollector::start("200 OK");
    let daemon = TestDaemon::start(&collector.settings());
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let body = serde_json::json!({ "prompt": "a red circle", "steps": 2, "size": "256x256" });
    let recorded = |flags: &str| {
        let http = daemon
            .http()
            .with("traceparent", &format!("00-{trace}-{span}-{flags}"));
        http.post("/v1/images/generations", &body).ok();
    };
    recorded("00");
    recorded("01");
    let spans = collector.spans("decode", 1);
    let root = check_tree(&spans);
    assert_eq!(
        (&root["traceId"], &root["parentSpanId"]),
        (&trace.into(), &span.into())
    );
    assert_eq!(
        attribute(root, "imagepool.job"),
        "2",
        "the first caller recorded nothing"
    );
}
