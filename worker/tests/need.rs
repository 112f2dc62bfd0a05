//! What is computed of a folder's need, against what the kernel counts: a process for each drawing,
//! because the counters are the process's.
//!
//! `NEED_FOLDER=DIR NEED_SIDES=256,512 cargo test --release -p worker --test need -- --nocapture` measures
//! another folder.

#![allow(
    clippy::disallowed_methods,
    reason = "a peak is a fact of a whole process, so a test starts some"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use worker::device::DeviceWish;
use worker::pipelines::{Family, JobParameters, ModelSource, load};
use worker::{footprint, manifest};

const PROMPT: &str = "a red circle left of a blue square on a white background";
const NAME: &str = "the_computed_need_covers_the_peak_and_is_not_far_above";
/// Set for a child: folder, family and side.
const CHILD: &str = "WORKER_TEST_NEED";

fn mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn draw(folder: &Path, family: Family, side: u32) {
    let source = ModelSource::Folder {
        path: folder.to_owned(),
        family: Some(family),
    };
    let mut model = load(&source, &DeviceWish::Cpu, &mut |_| {}).expect("a good folder");
    let job = JobParameters {
        prompt: PROMPT.to_owned(),
        negative: None,
        width: side,
        height: side,
        steps: 1,
        guidance: if family == Family::Sd35 { 2.0 } else { 0.0 },
        seed: 1,
    };
    let mut run = model.start(&job, None).expect("a good job");
    run.step(&|| false).expect("nobody cancels");
    run.decode().expect("a picture");
}

/// Runs in a child: prints the idle peak, the need and the peak.
fn measure(words: &str) {
    let words: Vec<&str> = words.split('|').collect();
    let [folder, family, side] = words[..] else {
        panic!("{words:?}");
    };
    let family = Family::named(family).expect("a family");
    let side: u32 = side.parse().expect("pixels");
    let idle = mb(footprint::measure().peak_bytes);
    let found = manifest::of_folder(Path::new(folder), Some(family), false).expect("a manifest");
    let promised = found.residency_mb + found.activation.at(side, side);
    draw(Path::new(folder), family, side);
    let peak = mb(footprint::measure().peak_bytes);
    println!("{promised} {idle} {peak}");
}

fn assert_covered(folder: &Path, family: &str, side: u32) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child.args(["--exact", NAME, "--nocapture"]);
    child.env(CHILD, format!("{}|{family}|{side}", folder.display()));
    let output = child.output().expect("this program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = |line: &str| -> Option<Vec<f64>> {
        line.split(' ').map(|word| word.parse().ok()).collect()
    };
    let found = said.lines().filter_map(numbers).find(|n| n.len() == 3);
    let found = found.unwrap_or_else(|| panic!("{said}"));
    let (promised, idle, peak) = (found[0] - found[1], found[1], found[2] - found[1]);
    println!(
        "{family} {side}: {promised:.0} MiB promised, {peak:.0} at the highest, idle {idle:.0}"
    );
    assert!(peak <= promised, "{family} {side}");
    assert!(promised <= 1.15 * peak + 64.0, "{family} {side}");
}

#[test]
fn the_computed_need_covers_the_peak_and_is_not_far_above() {
    if let Ok(words) = std::env::var(CHILD) {
        return measure(&words);
    }
    if let Ok(folder) = std::env::var("NEED_FOLDER") {
        let sides = std::env::var("NEED_SIDES").unwrap_or("256".to_owned());
        for side in sides.split(',').map(|side| side.parse().expect("pixels")) {
            assert_covered(Path::new(&folder), "flux", side);
            assert_covered(Path::new(&folder), "sd3", side);
        }
        return;
    }
    let goldens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    assert_covered(&goldens.join("tiny-flux"), "flux", 256);
    assert_covered(&goldens.join("tiny-sd3"), "sd3", 256);
}
