//! The probing process tells what the driver's library says, and why it says nothing.

use std::path::Path;

use supervisor::probe::gpu::{GpuAnswer, GpuReport};
use tests::binaries::Binaries;
use tests::gpus::{PretendedGpus, StandInGpu};
use tests::program::{self, Call};
use tests::sandbox::Sandbox;

fn ask(sandbox: &Sandbox, library: &Path) -> GpuAnswer {
    let mut command = program::command(&sandbox.binaries().supervisor(), sandbox);
    command.arg("--probe-gpus").arg("--library").arg(library);
    let output = Call::start(command).output().succeeded();
    let line = String::from_utf8_lossy(&output.stdout);
    GpuAnswer::read(line.trim_end()).unwrap_or_else(|why| panic!("{why}: {output:?}"))
}

fn report(sandbox: &Sandbox) -> GpuReport {
    match ask(sandbox, &Binaries::stand_in_gpus()) {
        GpuAnswer::Report(report) => report,
        GpuAnswer::Nothing(why) => panic!("{why}"),
    }
}

#[test]
fn every_gpu_is_listed_with_its_memory_and_its_processes() {
    let sandbox = Sandbox::new("");
    let gpus = PretendedGpus::of(&sandbox, &[1000, 2000]);
    let own = std::process::id();
    gpus.change(|state| {
        state.gpus[1].foreign_mb = 300;
        state.gpus[1].held.push(tests::gpus::HeldGpuMemory {
            pid: own,
            start: stand_in_gpu::state::start(own).expect("it runs"),
            mb: 50,
        });
    });
    let report = report(&sandbox);
    assert_eq!(report.driver, "999.1");
    let [first, second] = report.gpus.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!((first.index, first.uuid.as_str()), (0, "GPU-0000"));
    assert_eq!((first.total_bytes, first.used_bytes), (1000 << 20, 0));
    assert_eq!(first.compute.as_deref(), Some("9.0"));
    assert_eq!(first.temperature_c, Some(41));
    assert_eq!((first.power_mw, first.energy_mj), (Some(123_000), None));
    assert_eq!(second.used_bytes, 350 << 20);
    let listed = second.processes.clone().expect("the driver lists them");
    let listed: Vec<_> = listed.iter().map(|held| (held.pid, held.bytes)).collect();
    assert_eq!(listed, [(1, Some(300 << 20)), (own, Some(50 << 20))]);
}

#[test]
fn a_gpu_that_fell_off_the_bus_is_reported_and_the_others_are_listed() {
    let sandbox = Sandbox::new("");
    PretendedGpus::of(&sandbox, &[1000, 2000]).change(|state| state.gpus[0].is_gone = true);
    let report = report(&sandbox);
    let uuids: Vec<_> = report.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
    assert_eq!(uuids, ["GPU-0001"]);
    let [failed] = report.failed.as_slice() else {
        panic!("{report:?}");
    };
    assert!(
        failed.starts_with("GPU 0: device fell off the bus"),
        "{failed}"
    );
}

#[test]
fn the_parts_of_a_divided_gpu_are_listed_in_its_place() {
    let sandbox = Sandbox::new("");
    PretendedGpus::of(&sandbox, &[1000, 2000]).change(|state| {
        for nth in 0..2 {
            let mut part = StandInGpu::new(&format!("MIG-{nth}"), 400 + nth);
            part.part_of = Some(0);
            state.gpus.push(part);
        }
    });
    let report = report(&sandbox);
    let found: Vec<_> = report
        .gpus
        .iter()
        .map(|gpu| (gpu.index, gpu.uuid.as_str(), gpu.total_bytes >> 20))
        .collect();
    assert_eq!(
        found,
        [(0, "MIG-0", 400), (0, "MIG-1", 401), (1, "GPU-0001", 2000)]
    );
    assert_eq!(report.gpus[1].part_of.as_deref(), Some("GPU-0000"));
}

#[test]
fn without_a_driver_the_answer_names_the_library() {
    let sandbox = Sandbox::new("");
    let answer = ask(&sandbox, Path::new("/nowhere/libnvidia-ml.so.1"));
    let GpuAnswer::Nothing(why) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.starts_with("no NVIDIA driver here: "), "{why}");
}
