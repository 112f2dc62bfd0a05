//! The clients of the storm. Each of them fails the test if a job is lost or a byte is wrong.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipc_protocol::client::Picture;
use ipc_protocol::request::ImageRequest;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::chance::Chance;
use tests::http::HttpClient;
use tests::job::{draw, wait_for};
use tests::pixels::Pixels;
use tests::times::SortedTimes;
use tests::{processes, wait};

use super::field::{ATTACHED, MODELS, StormField, WANTED};
use super::strikes::{Point, StrikeTally};

/// One job in this number is struck by its own client, at a step of chance or after the last.
const STRIKES: u64 = 8;

/// A request to a model that no other job shares.
fn own_request(field: &StormField<'_>, chance: &mut Chance, model: &str) -> (usize, ImageRequest) {
    let nth = chance.below(WANTED as u64) as usize;
    let request = ImageRequest {
        model: Some(model.to_owned()),
        prompt: format!("a star {:016x}", chance.bits()),
        ..field.known[nth].0.clone()
    };
    (nth, request)
}

fn right(field: &StormField<'_>, nth: usize, request: &ImageRequest, rgb8: &[u8]) {
    if rgb8 != field.known[nth].1 {
        drop(lost(field, request, &"other bytes"));
    }
    field.pictures.fetch_add(1, Ordering::Relaxed);
}

/// Draws with one model again and again, and kills the worker in some of the jobs.
pub fn attached(field: &StormField<'_>, tally: &StrikeTally, model: usize, client: usize) {
    let mut chance = Chance::quiet((model * ATTACHED + client) as u64);
    let model = &field.models[model];
    let mut connection = field.daemon.client();
    while !field.is_over() {
        let (nth, request) = own_request(field, &mut chance, &model.name);
        let steps = request.steps.expect("it has a number of steps");
        let at = (chance.below(STRIKES) == 0).then(|| 1 + chance.below(steps.into()) as u32);
        let delay = Duration::from_micros(chance.below(6000));
        model.ask(client, field.now_us());
        let picture = draw(&mut connection, &request, |job, step| {
            let worker = (at == Some(step)).then(|| field.daemon.worker_of(job));
            let Some(pid) = worker.flatten().and_then(|worker| worker.pid) else {
                return;
            };
            if model.is_doomed(pid) {
                return;
            }
            if step == steps {
                wait::moments_of_chance(delay);
                tally.add(Point::AfterTheLastStep);
            } else {
                tally.add(Point::Step);
            }
            processes::signal(pid, Signal::SIGKILL);
        });
        model.answered(client);
        let picture = picture.unwrap_or_else(|failure| lost(field, &request, &failure));
        right(field, nth, &request, &picture.rgb8);
        let resumed = u64::from(picture.report.attempts > 1);
        field.resumed.fetch_add(resumed, Ordering::Relaxed);
    }
}

fn lost(field: &StormField<'_>, request: &ImageRequest, failure: &impl Debug) -> Picture {
    let model = request.model.as_deref().unwrap_or_default();
    let told = field.daemon.stderr.with(model);
    let last = &told[told.len().saturating_sub(60)..];
    panic!("{failure:?}\n{request:?}\n{}", last.join("\n"))
}

/// Sends requests away and asks for them on another connection.
pub fn detached(field: &StormField<'_>) {
    let mut chance = Chance::quiet(1001);
    while !field.is_over() {
        let model = &field.models[chance.below(MODELS as u64) as usize];
        let (nth, request) = own_request(field, &mut chance, &model.name);
        let away = ImageRequest {
            detached: true,
            ..request.clone()
        };
        model.ask(ATTACHED, field.now_us());
        let job = field
            .daemon
            .client()
            .generate(&away)
            .map(|it| it.accepted.first);
        let job = job.unwrap_or_else(|error| panic!("{error}: {request:?}"));
        wait::moments_of_chance(chance.moment(Duration::from_millis(100)));
        let picture = wait_for(&mut field.daemon.client(), job);
        model.answered(ATTACHED);
        let picture = picture.unwrap_or_else(|failure| lost(field, &request, &failure));
        right(field, nth, &request, &picture.rgb8);
    }
}

/// Draws over HTTP.
pub fn over_http(field: &StormField<'_>) {
    let mut chance = Chance::quiet(1002);
    let socket = field.daemon.sandbox.runtime_dir().join("http.sock");
    while !field.is_over() {
        let model = &field.models[chance.below(MODELS as u64) as usize];
        let (nth, request) = own_request(field, &mut chance, &model.name);
        let body = json!({
            "prompt": request.prompt, "model": request.model, "steps": request.steps, "seed": request.seed, "size": "64x64",
        });
        model.ask(ATTACHED + 1, field.now_us());
        let reply = HttpClient::unix(&socket).post("/v1/images/generations", &body);
        model.answered(ATTACHED + 1);
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{request:?}: {text}");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let png = STANDARD.decode(answer["data"][0]["b64_json"].as_str().expect("a picture"));
        let pixels = Pixels::decode(&png.expect("base64"));
        right(field, nth, &request, &pixels.rgb8);
        wait::moments_of_chance(chance.moment(Duration::from_millis(100)));
    }
}

/// Draws with the model that is never struck, until `until`; returns the times of its pictures.
pub fn undisturbed(field: &StormField<'_>, until: impl Fn() -> bool) -> SortedTimes {
    let mut connection = field.daemon.client();
    let mut times = Vec::new();
    while !until() {
        let (request, bytes) = &field.known[4];
        let (picture, took) = wait::timed(|| draw(&mut connection, request, |_, _| {}));
        let picture = picture.expect("this model is not struck");
        assert_eq!(picture.report.attempts, 1);
        assert!(picture.rgb8 == *bytes, "other bytes");
        times.push(took);
    }
    times.into_iter().collect()
}

/// Draws with the model that is idle most of the time.
pub fn resting(field: &StormField<'_>) {
    let mut connection = field.daemon.client();
    let (request, bytes) = &field.known[0];
    let request = ImageRequest {
        model: Some("resting".into()),
        ..request.clone()
    };
    let counter = AtomicU64::new(0);
    while !field.is_over() {
        let nth = counter.fetch_add(1, Ordering::Relaxed);
        let request = ImageRequest {
            prompt: format!("a star {nth}"),
            ..request.clone()
        };
        let picture = draw(&mut connection, &request, |_, _| {});
        let picture = picture.unwrap_or_else(|failure| lost(field, &request, &failure));
        assert!(picture.rgb8 == *bytes, "other bytes");
        wait::moments_of_chance(Duration::from_millis(500));
    }
}
