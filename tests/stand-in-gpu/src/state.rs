//! The file of the pretended GPUs: `stand-in-gpus` in `$TMPDIR`, which workers and probes inherit.
//!
//! One line per fact, under a lock of the whole file:
//! ```text
//! hang                          the library never answers
//! linger                        memory of dead processes stays taken
//! hide                          the driver lists no processes
//! gpu UUID TOTAL_MB FOREIGN_MB here|gone|CODE [WHOLE]
//! held UUID PID START MB
//! ```
//! `CODE` is the exit code of a worker that starts there, `WHOLE` is the place of the GPU that this one is a part of. `START` tells a process from a later one of the same pid.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Every pretended GPU, and what is wrong with the library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuState {
    /// The library never answers.
    pub hang: bool,
    /// Memory of dead processes stays taken.
    pub linger: bool,
    /// The driver lists no processes, as in a container.
    pub hide: bool,
    pub gpus: Vec<StandInGpu>,
}

/// One pretended GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandInGpu {
    pub uuid: String,
    pub total_mb: u64,
    /// Taken by other programs than the processes in `held`.
    pub foreign_mb: u64,
    pub is_gone: bool,
    /// The code with which a worker that starts there exits.
    pub exit_code: Option<i32>,
    /// The place of the GPU that it is a part of.
    pub part_of: Option<usize>,
    pub held: Vec<HeldGpuMemory>,
}

/// Memory of one process on a pretended GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldGpuMemory {
    pub pid: u32,
    /// When the process started, in ticks since the machine did.
    pub start: u64,
    pub mb: u64,
}

impl StandInGpu {
    /// A GPU of `total_mb` of which nothing is taken.
    pub fn new(uuid: &str, total_mb: u64) -> Self {
        Self {
            uuid: uuid.to_owned(),
            total_mb,
            foreign_mb: 0,
            is_gone: false,
            exit_code: None,
            part_of: None,
            held: Vec::new(),
        }
    }

    /// Everything that is taken.
    pub fn used_mb(&self) -> u64 {
        self.foreign_mb + self.held.iter().map(|held| held.mb).sum::<u64>()
    }
}

impl HeldGpuMemory {
    /// The process exists and has not ended.
    pub fn is_alive(&self) -> bool {
        start(self.pid) == Some(self.start)
    }
}

impl GpuState {
    /// Reads the file.
    pub fn read(path: &Path) -> Self {
        let mut file = File::open(path).expect("the test wrote it");
        file.lock_shared().expect("a file can be locked");
        Self::of(&mut file)
    }

    /// Changes the file, under its lock.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Self) -> T) -> T {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let mut file = file.open(path).expect("our own folder");
        file.lock().expect("a file can be locked");
        let mut state = Self::of(&mut file);
        let done = change(&mut state);
        let text = state.text();
        file.rewind().expect("a plain file");
        file.write_all(text.as_bytes()).expect("our own folder");
        file.set_len(text.len() as u64).expect("our own folder");
        done
    }

    /// Parses the file, and forgets the dead unless their memory lingers.
    fn of(file: &mut File) -> Self {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("our own file");
        let mut state = Self::default();
        text.lines().for_each(|line| state.take(line));
        if !state.linger {
            for gpu in &mut state.gpus {
                gpu.held.retain(HeldGpuMemory::is_alive);
            }
        }
        state
    }

    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> u64 { words[at].parse().expect("a number") };
        match words[0] {
            "hang" => self.hang = true,
            "linger" => self.linger = true,
            "hide" => self.hide = true,
            "gpu" => self.gpus.push(StandInGpu {
                foreign_mb: number(3),
                is_gone: words[4] == "gone",
                exit_code: words[4].parse().ok(),
                part_of: words.get(5).map(|_| number(5) as usize),
                ..StandInGpu::new(words[1], number(2))
            }),
            "held" => {
                let gpu = self.gpus.iter_mut().find(|gpu| gpu.uuid == words[1]);
                gpu.expect("its line comes first").held.push(HeldGpuMemory {
                    pid: number(2) as u32,
                    start: number(3),
                    mb: number(4),
                });
            }
            other => panic!("{other} is no line of this file"),
        }
    }

    fn text(&self) -> String {
        let flags = [
            ("hang", self.hang),
            ("linger", self.linger),
            ("hide", self.hide),
        ];
        let flags = flags.iter().filter(|(_, is_set)| *is_set);
        let mut lines: Vec<String> = flags.map(|(word, _)| (*word).to_owned()).collect();
        for gpu in &self.gpus {
            let here = match (gpu.is_gone, gpu.exit_code) {
                (true, _) => "gone".to_owned(),
                (false, Some(code)) => code.to_string(),
                (false, None) => "here".to_owned(),
            };
            let whole = gpu.part_of.map(|whole| format!(" {whole}"));
            lines.push(format!(
                "gpu {} {} {} {here}{}",
                gpu.uuid,
                gpu.total_mb,
                gpu.foreign_mb,
                whole.unwrap_or_default()
            ));
            let held = gpu.held.iter();
            lines.extend(
                held.map(|held| {
                    format!("held {} {} {} {}", gpu.uuid, held.pid, held.start, held.mb)
                }),
            );
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// The file of the processes that have this `TMPDIR`.
pub fn path() -> PathBuf {
    let folder = std::env::var_os("TMPDIR").expect("workers and probes inherit it");
    Path::new(&folder).join("stand-in-gpus")
}

/// When a process started, in ticks since the machine did; `None` if it has ended.
pub fn start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 3 and 22 of proc(5), counted after the name, which may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    (!has_ended).then(|| fields.nth(18)?.parse().ok())?
}
