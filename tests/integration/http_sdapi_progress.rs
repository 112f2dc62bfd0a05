//! A1111's `progress`, `interrupt` and `skip`, and clients that leave.

use serde_json::{Value, json};
use tests::daemon::TestDaemon;
use tests::http::{HttpClient, HttpExchange, from_base64};
use tests::pixels::Pixels;
use tests::program::PATIENCE;
use tests::wait;

/// One worker, whose steps are long enough to be looked at.
const SLOW: &str = "default_model = \"syn\"\n[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 50, load_ms = 1, weights_mb = 1 }\n";

fn begin(client: &HttpClient, steps: u32, count: u32) -> HttpExchange {
    let body = json!({"prompt": "x", "steps": steps, "batch_size": count, "width": 512, "height": 512, "seed": 1});
    client.send("POST", "/sdapi/v1/txt2img", Some(&body))
}

fn progress(client: &HttpClient) -> Value {
    client.get("/sdapi/v1/progress").ok()
}

/// Looks at the progress until `is_there`.
fn progress_when(client: &HttpClient, is_there: impl Fn(&Value) -> bool) -> Value {
    let found = wait::until_found(PATIENCE, || {
        Some(progress(client)).filter(|seen| is_there(seen))
    });
    found.unwrap_or_else(|| panic!("{}", progress(client)))
}

fn step(progress: &Value) -> u64 {
    progress["state"]["sampling_step"]
        .as_u64()
        .expect("a number")
}

/// The seeds of the pictures, after a check that there are as many pictures.
fn seeds(reply: &Value) -> Vec<u64> {
    let info: Value =
        serde_json::from_str(reply["info"].as_str().expect("a text")).expect("of JSON");
    let seeds = info["all_seeds"].as_array().expect("a list").iter();
    let seeds: Vec<u64> = seeds.map(|seed| seed.as_u64().expect("a number")).collect();
    assert_eq!(
        reply["images"].as_array().expect("a list").len(),
        seeds.len()
    );
    assert_eq!(
        info["infotexts"].as_array().expect("a list").len(),
        seeds.len()
    );
    seeds
}

fn is_at_rest(daemon: &TestDaemon) -> bool {
    let status = daemon.status();
    status.queue.is_empty() && status.workers.iter().all(|worker| worker.job.is_none())
}

/// Mean difference of two pictures of one size, from 0 to 255.
fn difference(one: &Pixels, other: &Pixels) -> f64 {
    assert_eq!((one.width, one.height), (other.width, other.height));
    let pairs = one.rgb8.iter().zip(&other.rgb8);
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.rgb8.len() as f64
}

#[test]
fn the_progress_shows_the_growing_picture_and_ends_at_rest() {
    let daemon = TestDaemon::start(SLOW);
    let client = daemon.http();
    // The synthetic model has no previews.
    let settings = json!({"sd_model_checkpoint": "pocket-flux"});
    let body = json!({"prompt": "a red circle left of a blue square", "steps": 64, "width": 512, "height": 512,
        "seed": 1, "override_settings": settings});
    let drawing = client.send("POST", "/sdapi/v1/txt2img", Some(&body));
    let is_shown = |seen: &Value| !seen["current_image"].is_null();
    let early = progress_when(&client, |seen| step(seen) >= 1 && is_shown(seen));
    let state = &early["state"];
    assert_eq!(
        (&state["sampling_steps"], &state["job_count"]),
        (&json!(64), &json!(1)),
        "{state}"
    );
    assert_eq!(
        (&state["job"], &state["interrupted"]),
        (&json!("txt2img"), &json!(false))
    );
    let bare = client
        .get("/sdapi/v1/progress?skip_current_image=true")
        .ok();
    assert_eq!(
        (&bare["current_image"], &bare["state"]["job_count"]),
        (&Value::Null, &json!(1))
    );
    let late = progress_when(&client, |seen| step(seen) >= 40 && is_shown(seen));
    let far = |progress: &Value| progress["progress"].as_f64().expect("a number");
    assert!(
        0.0 < far(&early) && far(&early) < far(&late) && far(&late) <= 1.0,
        "{state}"
    );
    assert!(early["eta_relative"].as_f64() > Some(0.0) && late["eta_relative"].is_f64());
    let reply = drawing.reply().ok();
    assert_eq!(seeds(&reply), [1]);
    let of = |image: &Value| Pixels::decode(&from_base64(image));
    let picture = of(&reply["images"][0]);
    assert_eq!((picture.width, picture.height), (512, 512));
    let differences = [&early, &late].map(|seen| difference(&of(&seen["current_image"]), &picture));
    assert!(differences[1] < differences[0], "{differences:?}");
    let idle = progress(&client);
    assert_eq!(
        (&idle["progress"], &idle["state"]["job_count"]),
        (&json!(0.0), &json!(0))
    );
}

/// Interrupts the caller's request, if there is one.
fn interrupt(client: &HttpClient) {
    let reply = client.send("POST", "/sdapi/v1/interrupt", None).reply();
    assert_eq!(reply.status, 200);
}

#[test]
fn an_interrupted_request_is_answered_with_its_finished_pictures() {
    let daemon = TestDaemon::start(SLOW);
    let client = daemon.http();
    let drawing = begin(&client, 8, 10);
    progress_when(&client, |seen| seen["state"]["job_no"].as_u64() >= Some(1));
    interrupt(&client);
    let seeds = seeds(&drawing.reply().ok());
    assert!((1..10).contains(&seeds.len()) && seeds[0] == 1, "{seeds:?}");
    assert!(
        wait::until(PATIENCE, || is_at_rest(&daemon)),
        "{:?}",
        daemon.status()
    );
    let drawing = begin(&client, 1000, 1);
    progress_when(&client, |seen| step(seen) >= 1);
    interrupt(&client);
    assert_eq!(self::seeds(&drawing.reply().ok()), [0; 0]);
}

#[test]
fn a_skipped_picture_is_left_out_and_the_next_one_is_drawn() {
    let daemon = TestDaemon::start(SLOW);
    let client = daemon.http();
    assert_eq!(
        client.send("POST", "/sdapi/v1/skip", None).reply().status,
        200,
        "there is nothing to skip"
    );
    let drawing = begin(&client, 30, 2);
    progress_when(&client, |seen| step(seen) >= 1);
    assert_eq!(
        client.send("POST", "/sdapi/v1/skip", None).reply().status,
        200
    );
    assert_eq!(seeds(&drawing.reply().ok()), [2]);
}

#[test]
fn a_client_that_leaves_has_its_pictures_cancelled() {
    let daemon = TestDaemon::start(SLOW);
    let client = daemon.http();
    let drawing = begin(&client, 1000, 3);
    progress_when(&client, |seen| step(seen) >= 1);
    drop(drawing);
    assert!(
        wait::until(PATIENCE, || is_at_rest(&daemon)),
        "{:?}",
        daemon.status()
    );
    progress_when(&client, |seen| seen["state"]["job_count"] == 0);
}

#[test]
fn a_job_of_another_door_is_neither_shown_nor_interrupted() {
    let daemon = TestDaemon::start(SLOW);
    let client = daemon.http();
    let body = json!({"prompt": "x", "steps": 20});
    let other = client.send("POST", "/v1/images/generations", Some(&body));
    assert!(wait::until(PATIENCE, || !is_at_rest(&daemon)));
    assert_eq!(progress(&client)["state"]["job_count"], 0);
    interrupt(&client);
    assert_eq!(other.reply().status, 200);
}
