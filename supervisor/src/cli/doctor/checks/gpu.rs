//! GPUs: the driver, its library, the program for them, and other users of their memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ipc_protocol::units::Mebibytes;

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;
use crate::probe::gpu::{GpuAnswer, GpuFacts, GpuReport};
use crate::process::{programs, spawn};

const DRIVER: &str = "GPU driver";
const MEMORY: &str = "GPU memory";
const PROGRAM: &str = "GPU worker";

/// How long the driver's library may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel module's version.
const MODULE: &str = "/sys/module/nvidia/version";

/// Checks the driver and every GPU.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    let library = machine.config.gpu_library.as_deref();
    let module = fs::read_to_string(MODULE).ok();
    let module = module.as_deref().map(str::trim);
    let ours: BTreeSet<u32> = match &machine.daemon {
        Ok(daemon) => daemon
            .report
            .workers
            .iter()
            .filter_map(|worker| worker.pid)
            .collect(),
        Err(_) => BTreeSet::new(),
    };
    match answer(library) {
        Ok(GpuAnswer::Report(report)) => {
            let mut findings = driver(&report, module);
            findings.extend(report.gpus.iter().map(|gpu| memory(gpu, &ours, name_of)));
            findings.extend((!report.gpus.is_empty()).then(program));
            findings
        }
        Ok(GpuAnswer::Nothing(why)) => vec![nothing(&why, library, module)],
        Err(why) => vec![CheckResult::problem(
            DRIVER,
            why,
            "the GPU driver",
            "`nvidia-smi` should answer at once; if it hangs too, restart the machine",
        )],
    }
}

fn answer(library: Option<&Path>) -> Result<GpuAnswer, String> {
    let program = programs::find("supervisor").map_err(|error| error.to_string())?;
    let said = spawn::probe_gpus(&program, library, PATIENCE).map_err(|error| error.to_string())?;
    GpuAnswer::read(said?.trim_end())
}

/// The result of a machine on which no GPU can be used: as it should be, unless something says that there is one.
fn nothing(why: &str, library: Option<&Path>, module: Option<&str>) -> CheckResult {
    let has_device = Path::new("/dev/nvidiactl").exists();
    if let Some(library) = library {
        return CheckResult::problem(
            DRIVER,
            why,
            format!(
                "the driver's library {}, which gpu.library in the settings names",
                library.display()
            ),
            "correct gpu.library, or remove it: then the usual library is looked for",
        );
    }
    match module {
        Some(version) => CheckResult::problem(
            DRIVER,
            format!("the kernel's driver is version {version}, but {why}"),
            "the driver's library: it is missing, or of another version than the kernel's",
            "install libnvidia-ml of the same version, or restart after an update of the driver; `nvidia-smi` shows the same",
        ),
        None if has_device => CheckResult::problem(
            DRIVER,
            format!("/dev/nvidiactl is here, but {why}"),
            "the container or the installation: the driver's library is missing in it",
            "start the container with `--gpus all`, or install the driver",
        ),
        None => CheckResult::ok(DRIVER, format!("workers use the CPU: {why}")),
    }
}

/// The results about the driver: its version, and the GPUs that did not answer.
fn driver(report: &GpuReport, module: Option<&str>) -> Vec<CheckResult> {
    let mut findings: Vec<CheckResult> = report
        .failed
        .iter()
        .map(|failed| {
            CheckResult::problem(
                DRIVER,
                failed,
                "the GPU or its slot",
                "`dmesg | grep -i xid`; restart the machine; if it stays, have the card replaced",
            )
        })
        .collect();
    findings.push(match module {
        Some(module) if module != report.driver => CheckResult::problem(
            DRIVER,
            format!(
                "the library is version {} and the kernel's driver is {module}",
                report.driver
            ),
            "an update of the driver without a restart",
            "restart the machine",
        ),
        Some(_) | None => CheckResult::ok(
            DRIVER,
            format!(
                "version {}, {} GPUs answer",
                report.driver,
                report.gpus.len()
            ),
        ),
    });
    findings
}

/// The result about a GPU's memory: how much is free, and which other processes have some.
fn memory(gpu: &GpuFacts, ours: &BTreeSet<u32>, name_of: impl Fn(u32) -> String) -> CheckResult {
    let mib = |bytes: u64| Mebibytes(bytes >> 20);
    let free = mib(gpu.total_bytes.saturating_sub(gpu.used_bytes));
    let found = format!(
        "GPU {} ({}): {free} of {} free",
        gpu.index,
        gpu.name,
        mib(gpu.total_bytes)
    );
    let Some(processes) = &gpu.processes else {
        return CheckResult::ok(
            MEMORY,
            format!("{found}; the driver does not list its users"),
        );
    };
    let others: Vec<String> = processes
        .iter()
        .filter(|process| !ours.contains(&process.pid))
        .map(|process| {
            let held = process.bytes.map(|bytes| format!(" has {}", mib(bytes)));
            let name = name_of(process.pid);
            format!("{} ({name}){}", process.pid, held.unwrap_or_default())
        })
        .collect();
    match others.first() {
        None => CheckResult::ok(MEMORY, found),
        Some(first) => CheckResult::warning(
            MEMORY,
            format!("{found}; others use it: {}", others.join(", ")),
            "other programs: the pool never promises their memory to a worker",
            format!(
                "end them if they are not needed, such as `kill {}`",
                first.split(' ').next().unwrap_or_default()
            ),
        ),
    }
}

fn program() -> CheckResult {
    let worker = programs::find("worker").map_err(|error| error.to_string());
    match worker.and_then(|worker| programs::check_cuda_worker(&worker)) {
        Ok(()) => CheckResult::ok(PROGRAM, "the worker for CUDA is installed"),
        Err(why) => CheckResult::warning(
            PROGRAM,
            why,
            "the installation: workers use the CPU although there is a GPU",
            "`scripts/build-cuda`, and copy worker-cuda beside worker",
        ),
    }
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => "not visible here".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;
    use crate::probe::gpu::GpuProcess;

    fn gpu(processes: Option<Vec<GpuProcess>>) -> GpuFacts {
        GpuFacts {
            total_bytes: 80 << 30,
            used_bytes: 20 << 30,
            processes,
            ..crate::probe::sample::gpu(0, 0)
        }
    }

    #[test]
    fn other_users_of_a_gpu_are_listed_and_our_workers_are_not() {
        let held = |pid| GpuProcess {
            pid,
            bytes: Some(10 << 30),
        };
        let ours = BTreeSet::from([7]);
        let judged = |processes| memory(&gpu(processes), &ours, |_| "llama-server".into());
        assert_eq!(judged(Some(vec![held(7)])).grade, Grade::Ok);
        assert_eq!(judged(None).grade, Grade::Ok);
        let shared = judged(Some(vec![held(7), held(9)]));
        assert_eq!(shared.grade, Grade::Warning);
        assert!(
            shared.found.contains("60.0 GiB of 80.0 GiB free"),
            "{shared:?}"
        );
        assert!(
            shared.found.ends_with("9 (llama-server) has 10.0 GiB"),
            "{shared:?}"
        );
    }

    #[test]
    fn a_library_of_another_version_than_the_kernels_driver_is_a_problem() {
        let report = GpuReport {
            driver: "570.1".into(),
            gpus: vec![gpu(None)],
            failed: vec!["GPU 1: device fell off the bus".into()],
        };
        let grades = |module| -> Vec<Grade> {
            let found = driver(&report, module);
            found.iter().map(|finding| finding.grade).collect()
        };
        assert_eq!(grades(Some("570.1")), [Grade::Problem, Grade::Ok]);
        assert_eq!(grades(Some("580.2")), [Grade::Problem, Grade::Problem]);
        assert_eq!(grades(None), [Grade::Problem, Grade::Ok]);
    }

    #[test]
    fn a_machine_without_a_gpu_is_well_unless_the_settings_or_the_kernel_have_one() {
        let grade = |library: Option<&str>, module| {
            let library = library.map(Path::new);
            nothing("no NVIDIA driver here", library, module).grade
        };
        assert_eq!(grade(Some("/x.so"), None), Grade::Problem);
        assert_eq!(grade(None, Some("580.2")), Grade::Problem);
    }
}
