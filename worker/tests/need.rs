//! The computed memory need of a folder, compared with the kernel's counters per process.
//!
//! `NEED_FOLDER=DIR NEED_SIDES=256,512 cargo test --release -p worker --test need -- --nocapture` measures
//! another folder.

#![allow(
    clippy::disallowed_methods,
    reason = "a peak is that of a whole process, so the tests start processes"
)]

mod altered;
mod grown;

use altered::Altered;
use grown::{Growth, StoredAs, grow};
use ipc_protocol::arithmetic::{Arithmetic, Dtype, Encoders};
use ipc_protocol::family::Family;
use ipc_protocol::ids::Device;
use std::path::{Path, PathBuf};
use std::process::Command;
use worker::pipelines::{ComputeSettings, JobParameters, ModelOrigin, load_with};
use worker::{footprint, manifest};

const PROMPT: &str = "a red circle left of a blue square on a white background";
const NAME: &str = "the_computed_need_covers_the_peak_and_is_not_much_larger";
/// Environment variable of a child: folder, family, side, dtype and placement of the encoders.
const CHILD: &str = "WORKER_TEST_NEED";

fn mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn draw(folder: &Path, family: Family, side: u32, settings: ComputeSettings) {
    let source = ModelOrigin::Folder {
        path: folder.to_owned(),
        family: Some(family),
    };
    let model = load_with(&source, Device::Host, settings, &mut |_| {});
    let mut model = model.expect("a good folder");
    let job = JobParameters {
        prompt: PROMPT.to_owned(),
        negative: None,
        width: side,
        height: side,
        steps: 1,
        guidance: if family == Family::new("sd3") {
            2.0
        } else {
            0.0
        },
        seed: 1,
    };
    let mut run = model.start(&job, None).expect("a good job");
    run.step(&|| false).expect("it is not cancelled");
    run.decode().expect("a picture");
}

/// Runs in a child: prints the peak after loading, the need, and the peak after drawing.
fn measure(words: &str) {
    let words: Vec<&str> = words.split('|').collect();
    let [folder, family, side, dtype, encoders] = words[..] else {
        panic!("{words:?}");
    };
    let family = Family::named(family).expect("a family");
    let side: u32 = side.parse().expect("pixels");
    let wished = Arithmetic {
        dtype: dtype.parse().expect("a dtype"),
        encoders: encoders.parse().expect("a place"),
    };
    let settings = ComputeSettings::on(Device::Host, wished);
    let idle = mb(footprint::measure().peak_bytes);
    let found = manifest::of_folder(Path::new(folder), Some(family), wished);
    let found = found.expect("a manifest");
    // An inspection, which reads the files whole, is a process of its own; its peak is forgotten here (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5").expect("the kernel counts peaks");
    let promised = found.residency_mb + found.activation.at(side, side);
    draw(Path::new(folder), family, side, settings);
    let peak = mb(footprint::measure().peak_bytes);
    println!("{promised} {idle} {peak}");
}

/// Returns the computed need in MiB.
fn assert_covered(folder: &Path, family: &str, side: u32, how: Arithmetic) -> f64 {
    let Arithmetic { dtype, encoders } = how;
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child.args(["--exact", NAME, "--nocapture"]);
    let words = format!("{}|{family}|{side}|{dtype}|{encoders}", folder.display());
    child.env(CHILD, words);
    let output = child.output().expect("this program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = |line: &str| -> Option<Vec<f64>> {
        line.split(' ').map(|word| word.parse().ok()).collect()
    };
    let found = said.lines().filter_map(numbers).find(|n| n.len() == 3);
    let found = found.unwrap_or_else(|| panic!("{said}"));
    let (promised, idle, peak) = (found[0] - found[1], found[1], found[2] - found[1]);
    let what = format!("{family} {side} {dtype} {encoders}");
    println!("{what}: {promised:.0} MiB promised, {peak:.0} at the highest, idle {idle:.0}");
    assert!(peak <= promised, "{what}");
    assert!(promised <= 1.15 * peak + 64.0, "{what}");
    promised
}

/// A FLUX model with encoders and a transformer that are large compared with its activations.
fn heavy(stored: StoredAs) -> Altered {
    let copy = Altered::copy_of(&goldens().join("tiny-flux"));
    let feed_forward = |name: &str, side| match side {
        128 if name.contains("DenseReluDense") => 4096,
        other => other,
    };
    let encoder = Growth {
        prefix: "encoder.block.",
        blocks: 38,
        widen: &feed_forward,
        stored,
    };
    let transformer = Growth {
        prefix: "single_blocks.",
        blocks: 150,
        widen: &|_, side| side,
        stored,
    };
    grow(&copy.file("t5xxl.safetensors"), &encoder);
    grow(&copy.file("flux1-schnell.safetensors"), &transformer);
    let (from, to) = [(128, 3), (4096, 38)]
        .map(|(wide, deep)| format!("\"d_ff\": {wide},\n   \"layers\": {deep}"))
        .into();
    copy.replace("meta.json", &from, &to);
    copy.replace("meta.json", "\"single\": 3", "\"single\": 150");
    copy
}

fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

#[test]
fn the_computed_need_covers_the_peak_and_is_not_much_larger() {
    if let Ok(words) = std::env::var(CHILD) {
        return measure(&words);
    }
    if let Ok(folder) = std::env::var("NEED_FOLDER") {
        let sides = std::env::var("NEED_SIDES").unwrap_or("256".to_owned());
        for side in sides.split(',').map(|side| side.parse().expect("pixels")) {
            assert_covered(Path::new(&folder), "flux", side, Arithmetic::default());
            assert_covered(Path::new(&folder), "sd3", side, Arithmetic::default());
        }
        return;
    }
    let how = |dtype, encoders| Arithmetic { dtype, encoders };
    for how in [
        how(Dtype::F32, Encoders::Keep),
        how(Dtype::F32, Encoders::Drop),
        how(Dtype::Bf16, Encoders::Keep),
    ] {
        assert_covered(&goldens().join("tiny-flux"), "flux", 256, how);
        assert_covered(&goldens().join("tiny-sd3"), "sd3", 256, how);
    }
}

#[test]
fn half_precision_and_dropped_encoders_lower_need_and_peak_alike() {
    let model = heavy(StoredAs::F32);
    let need =
        |dtype, encoders| assert_covered(model.path(), "flux", 128, Arithmetic { dtype, encoders });
    let whole = need(Dtype::F32, Encoders::Keep);
    let halves = need(Dtype::Bf16, Encoders::Keep);
    assert!(halves + 60.0 < whole, "{halves} beside {whole}");
    need(Dtype::F32, Encoders::Drop);
    need(Dtype::Bf16, Encoders::Drop);
    let resident = |encoders| {
        let how = Arithmetic {
            dtype: Dtype::F32,
            encoders,
        };
        let found = manifest::of_folder(model.path(), Some(Family::new("flux")), how);
        found.expect("a manifest").residency_mb
    };
    let [kept, dropped] = [Encoders::Keep, Encoders::Drop].map(resident);
    assert!(dropped + 30 < kept, "{dropped} beside {kept}");
}

#[test]
fn a_model_takes_no_more_memory_than_its_files_in_half_precision() {
    let need = |stored, encoders| {
        let dtype = Dtype::F32;
        let how = Arithmetic { dtype, encoders };
        assert_covered(heavy(stored).path(), "flux", 128, how)
    };
    let whole = need(StoredAs::F32, Encoders::Keep);
    let halves = need(StoredAs::Bf16, Encoders::Keep);
    assert!(halves + 60.0 < whole, "{halves} beside {whole}");
    need(StoredAs::Bf16, Encoders::Drop);
}
