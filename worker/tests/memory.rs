//! The manifest's memory figures, compared with the kernel's counts.
//!
//! There is only one test, because the counters are those of the whole process.

use ipc_protocol::ids::Device;
use worker::pipelines::families::flux::POCKET;
use worker::pipelines::{JobParameters, ModelOrigin, Pipeline, load};
use worker::{footprint, manifest};

fn peak_mb() -> f64 {
    footprint::measure().peak_bytes as f64 / f64::from(1 << 20)
}

fn draw(model: &mut dyn Pipeline, side: u32) {
    let prompt = "a red circle left of a blue square on a white background".to_owned();
    let job = JobParameters {
        prompt,
        negative: None,
        width: side,
        height: side,
        steps: 4,
        guidance: 0.0,
        seed: 1,
    };
    let mut run = model.start(&job, None).expect("a good job");
    while run.steps_done() < job.steps {
        run.step(&|| false).expect("it is not cancelled");
    }
    run.decode().expect("a picture");
}

/// Asserts that the figure covers the measured memory and is not much larger, because reserved and unused memory
/// could serve other workers.
fn assert_covers(what: &str, promised_mb: u64, measured_mb: f64) {
    let promised = promised_mb as f64;
    println!("{what}: {promised} MiB promised, {measured_mb:.1} MiB at the highest");
    assert!(promised >= measured_mb, "{what}");
    assert!(promised <= measured_mb * 1.4 + 8.0, "{what}");
}

#[test]
fn the_manifest_covers_the_memory_of_a_process_and_is_not_much_larger() {
    let promised = manifest::embedded(&POCKET).expect("the embedded files");
    let mut model =
        load(&ModelOrigin::Embedded(&POCKET), Device::Host, &mut |_| {}).expect("weights");
    assert_covers("loaded", promised.residency_mb, peak_mb());
    let threads = rayon::current_num_threads().saturating_sub(2) as u64;
    for side in [64, 128, 256] {
        draw(model.as_mut(), side);
        let activation = promised.activation.at(side, side) + threads * promised.per_thread_mb;
        assert_covers(
            &format!("{side}x{side}"),
            promised.residency_mb + activation,
            peak_mb(),
        );
    }
}
