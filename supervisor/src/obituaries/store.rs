//! The obituaries in memory, which are also on the disk if there is a state folder.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipc_protocol::messages::client::Target;
use ipc_protocol::obituary::Obituary;

use pool::EndClass;

use super::folder::ObituaryFolder;
use super::writer::ObituaryWriter;

/// Obituaries that are kept without a state folder.
const KEPT_MAX: usize = 100;

/// The obituaries of this daemon, and those that earlier ones left in the state folder.
#[derive(Debug)]
pub struct ObituaryStore {
    /// Oldest first.
    ends: VecDeque<Arc<Obituary>>,
    /// Most obituaries.
    most: usize,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    state_dir: PathBuf,
    writer: ObituaryWriter,
}

impl Default for ObituaryStore {
    /// A store in memory only.
    fn default() -> Self {
        Self {
            ends: VecDeque::new(),
            most: KEPT_MAX,
            disk: None,
        }
    }
}

impl ObituaryStore {
    /// Opens the state folder and reads the newest obituaries in it, at most `most`. As many are kept there.
    ///
    /// # Errors
    /// The folder cannot be used, or no thread can be started.
    pub fn open(state_dir: &Path, most: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = ObituaryFolder::open(state_dir, most)?;
        folder.sweep();
        let ends = folder.read().into_iter().map(Arc::new).collect();
        let disk = Some(Disk {
            state_dir: state_dir.to_owned(),
            writer: ObituaryWriter::start(folder)?,
        });
        Ok(Self { ends, most, disk })
    }

    /// Reads the obituaries in a state folder, for a program that adds none.
    ///
    /// # Errors
    /// The folder has no obituaries, or this user may not read them.
    pub fn read(state_dir: &Path) -> io::Result<Self> {
        let ends: VecDeque<_> = ObituaryFolder::existing(state_dir)?
            .read()
            .into_iter()
            .map(Arc::new)
            .collect();
        Ok(Self {
            most: ends.len(),
            ends,
            disk: None,
        })
    }

    /// The state folder, if there is one.
    pub fn state_dir(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| disk.state_dir.as_path())
    }

    /// Keeps an obituary. Replaces an earlier one of the same process.
    pub fn add(&mut self, obituary: Obituary) {
        let obituary = Arc::new(obituary.bounded());
        let of_same = |other: &Arc<Obituary>| {
            (other.supervisor_pid, other.generation)
                == (obituary.supervisor_pid, obituary.generation)
        };
        // Pids and generations may repeat in earlier daemons: only the newest entries can be of this one.
        let replaced = self.ends.iter().rposition(of_same);
        let replaced = replaced.filter(|at| self.ends[*at].class == EndClass::NotReaped.word());
        if let Some(at) = replaced
            && let (Some(old), Some(disk)) = (self.ends.remove(at), &self.disk)
        {
            disk.writer.remove(old);
        }
        if let Some(disk) = &self.disk {
            disk.writer.write(Arc::clone(&obituary));
        }
        if self.ends.len() == self.most {
            self.ends.pop_front();
        }
        self.ends.push_back(obituary);
    }

    /// The obituaries of these workers, at most `most`, newest first.
    pub fn newest(&self, of: &Target, most: usize) -> Vec<Arc<Obituary>> {
        let meant = |end: &&Arc<Obituary>| is_meant(of, end);
        let newest = self.ends.iter().rev().filter(meant);
        newest.take(most).cloned().collect()
    }

    /// Waits until everything is written, but not for a disk that hangs.
    pub fn finish(&self) {
        if let Some(disk) = &self.disk {
            disk.writer.finish();
        }
    }
}

fn is_meant(of: &Target, end: &Obituary) -> bool {
    match of {
        Target::All => true,
        Target::Model(model) => end.model == model.as_str(),
        Target::Worker(name) => end.worker == name.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use ipc_protocol::ids::ModelKey;

    use super::*;

    /// An end of this worker.
    pub fn obituary(generation: u64, worker: &str) -> Obituary {
        let model = worker.split(':').next().unwrap_or_default();
        Obituary {
            worker: worker.to_owned(),
            model: model.to_owned(),
            generation,
            pid: Some(4711),
            device: "cpu".into(),
            time: format!("2026-01-02T03:04:{generation:02}.000Z"),
            uptime_s: 1.5,
            supervisor_pid: 4700,
            class: "crashed".into(),
            sentence: format!(
                "{worker} ended by signal 11 (raised by itself, unless another process sent it)"
            ),
            signal: Some(11),
            sender: Some("unknown".into()),
            state: "idle".into(),
            reserved_mb: BTreeMap::from([("host".to_owned(), 100)]),
            measured_mb: Some(90),
            peak_mb: Some(95),
            in_a_row: 1,
            lines: vec![format!("line of {worker}")],
            ..Obituary::default()
        }
    }

    fn generations(ends: &[Arc<Obituary>]) -> Vec<u64> {
        ends.iter().map(|end| end.generation).collect()
    }

    #[test]
    fn the_newest_ends_come_first_and_the_oldest_are_dropped() {
        let mut store = ObituaryStore::default();
        store.add(obituary(1, "a:0"));
        store.add(obituary(2, "b:0"));
        store.add(obituary(3, "a:1"));
        assert_eq!(generations(&store.newest(&Target::All, 9)), [3, 2, 1]);
        assert_eq!(generations(&store.newest(&Target::All, 1)), [3]);
        let model = Target::Model(ModelKey::new("a").expect("a key"));
        assert_eq!(generations(&store.newest(&model, 9)), [3, 1]);
        for generation in 4..500 {
            store.add(obituary(generation, "c:0"));
        }
        assert_eq!(store.newest(&Target::All, usize::MAX).len(), KEPT_MAX);
        assert!(store.newest(&model, 9).is_empty());
    }

    #[test]
    fn a_process_that_was_reaped_after_all_has_one_obituary() {
        let mut store = ObituaryStore::default();
        store.add(Obituary {
            class: EndClass::NotReaped.word().into(),
            ..obituary(7, "a:0")
        });
        store.add(obituary(7, "a:0"));
        let ends = store.newest(&Target::All, 9);
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].class, "crashed");
    }

    #[test]
    fn obituaries_survive_the_daemon() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let mut store = ObituaryStore::open(state.path(), 2).expect("ours to make");
        for generation in 1..=3 {
            store.add(obituary(generation, "a:0"));
        }
        store.finish();
        drop(store);
        let read = ObituaryStore::read(state.path()).expect("ours");
        assert_eq!(generations(&read.newest(&Target::All, 9)), [3, 2]);
        let none = tempfile::tempdir().expect("a temporary folder");
        ObituaryStore::read(none.path()).expect_err("it has no obituaries");
        let store = ObituaryStore::open(state.path(), 2).expect("ours");
        assert_eq!(generations(&store.newest(&Target::All, 9)), [3, 2]);
        assert_eq!(store.state_dir(), Some(state.path()));
    }
}
