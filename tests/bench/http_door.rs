//! The cost of the HTTP door: a picture through it, beside the same picture through the native door.
//!
//! Both are asked for in turn, in one run. The HTTP door also makes a PNG file and its base64 text, which is measured
//! beside them on the same pixels and not counted as a cost of the door.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipc_protocol::units::PictureSize;
use serde_json::json;
use supervisor::picture::file::{Metadata, file};
use supervisor::picture::format::{PictureFormat, Quality};
use tests::daemon::TestDaemon;
use tests::http::HttpClient;
use tests::job::{draw, request};
use tests::times::{SortedTimes, hundredths, ms};
use tests::wait;

const ROUNDS: u64 = 101;
const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n[models.syn]\nfamily = \"synthetic\"\n\
    params = { step_ms = 0, load_ms = 0, weights_mb = 1 }\n";
const SIDE: u32 = 1024;

fn main() {
    let daemon = TestDaemon::start(SETTINGS);
    let mut native = daemon.client();
    let http = HttpClient::unix(daemon.sandbox.runtime_dir().join("http.sock"));
    let size = PictureSize {
        width: SIDE,
        height: SIDE,
    };
    let (mut by_native, mut by_http, mut by_file) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..ROUNDS {
        let mut asked = request("syn", 1, seed);
        asked.size = Some(size);
        let (picture, took) = wait::timed(|| draw(&mut native, &asked, |_, _| {}));
        let picture = picture.expect("it is drawn");
        by_native.push(took);
        let body = json!({"prompt": asked.prompt, "model": "syn", "steps": 1, "seed": seed, "size": size.to_string()});
        let (reply, took) = wait::timed(|| http.post("/v1/images/generations", &body));
        assert_eq!(reply.status, 200);
        by_http.push(took);
        let (text, took) = wait::timed(|| {
            let bytes = file(
                size,
                &picture.rgb8,
                PictureFormat::Png,
                Quality::BEST,
                &Metadata::Mark,
            );
            STANDARD.encode(bytes.expect("a whole picture"))
        });
        assert!(!text.is_empty());
        by_file.push(took);
    }
    let [native, http, file] = [by_native, by_http, by_file].map(median_ms);
    let cost = hundredths(http - native - file);
    println!(
        "{}",
        json!({"bench": "http_door", "size": size.to_string(), "rounds": ROUNDS, "native_p50_ms": native,
            "http_p50_ms": http, "png_and_base64_p50_ms": file, "door_cost_p50_ms": cost})
    );
}

/// The median in milliseconds, to a hundredth.
fn median_ms(times: Vec<Duration>) -> f64 {
    hundredths(ms(SortedTimes::from_iter(times).percentile(50)))
}
