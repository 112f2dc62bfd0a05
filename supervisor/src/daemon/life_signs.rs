//! Tells the service manager that the daemon serves, that its loop turns, and what it does.

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::event::EventReport;
use ipc_protocol::status::{MemoryStatus, StatusReport, WorkerState};
use ipc_protocol::units::counted;
use pool::Moment;
use tokio::sync::broadcast::Receiver;

use super::notifier::Notifier;
use crate::clock::Clock;
use crate::driver::handle::Handle;

/// Time between an event of the pool and the status that shows it, so that a busy pool sends few.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// Time that the service manager is asked for while accepted jobs end; asked again before it is over.
const EXTENSION: Duration = Duration::from_secs(15);
/// Time between two such questions.
const EXTENSION_PAUSE: Duration = Duration::from_secs(4);
/// Parts of a gibibyte, in mebibytes.
const GIBIBYTE: f64 = 1024.0;

/// Sends signs of life, each of which the loop has caused: a loop that hangs sends none.
#[derive(Debug)]
pub(super) struct LifeSigns {
    notifier: Arc<Notifier>,
    handle: Handle,
    clock: Clock,
    events: Receiver<Arc<EventReport>>,
    /// When the watchdog is due.
    ping_due: Option<Moment>,
    /// When the status is due, if anything has happened since the last one.
    status_due: Option<Moment>,
    /// The last status.
    text: String,
}

impl LifeSigns {
    pub(super) fn new(notifier: Arc<Notifier>, handle: Handle, clock: Clock) -> Self {
        Self {
            notifier,
            events: handle.events_from_now(),
            handle,
            clock,
            ping_due: None,
            status_due: None,
            text: String::new(),
        }
    }

    /// Reports that the daemon is ready once the loop turns; then sends signs of life until the loop ends.
    pub(super) async fn send(mut self) {
        if !self.notifier.is_connected() || self.handle.pulse().await.is_err() {
            return;
        }
        self.status().await;
        self.notifier.ready().await;
        self.plan_ping();
        loop {
            tokio::select! {
                biased;
                () = self.handle.ended() => return,
                () = self.clock.wait_until(self.ping_due) => self.ping().await,
                () = self.clock.wait_until(self.status_due) => self.status().await,
                // A receiver that was too slow has missed events, so there were some.
                _ = self.events.recv(), if self.status_due.is_none() => {
                    self.status_due = Some(self.clock.now() + STATUS_PAUSE);
                }
            }
        }
    }

    /// Feeds the watchdog as soon as the loop answers.
    async fn ping(&mut self) {
        if self.handle.pulse().await.is_ok() {
            self.notifier.alive().await;
        }
        self.plan_ping();
    }

    fn plan_ping(&mut self) {
        let pause = self.notifier.watchdog().map(|time| time / 2);
        self.ping_due = pause.map(|pause| self.clock.now() + pause);
    }

    /// Sends the status if it has changed. Asks for more time if accepted jobs still end.
    async fn status(&mut self) {
        // Before the question: an event that the answer does not show causes another status.
        self.events = self.events.resubscribe();
        self.status_due = None;
        let Ok(answer) = self.handle.status().await else {
            return;
        };
        let text = text(&answer.status);
        if text != self.text {
            self.notifier.status(&text).await;
            self.text = text;
        }
        if self.notifier.stops() {
            self.notifier.extend(EXTENSION).await;
            self.status_due = Some(self.clock.now() + EXTENSION_PAUSE);
        }
    }
}

/// The status in a line: state, workers, jobs and memory.
fn text(report: &StatusReport) -> String {
    let state = &report.supervisor.state;
    let workers = report.workers.len();
    let ready = |state| state == WorkerState::Running;
    let ready = report.workers.iter().filter(|it| ready(it.state)).count();
    let running = report.queue.iter().filter(|job| job.state == "running");
    let running = running.count();
    let waiting = report.queue.len() - running;
    let memory: Vec<String> = report.memory.iter().map(memory).collect();
    format!(
        "{state}: {ready} of {workers} workers ready, {} running, {waiting} waiting; {}",
        counted(running as u64, "job"),
        memory.join(", ")
    )
}

fn memory(memory: &MemoryStatus) -> String {
    let gibibytes = |mebibytes: u64| mebibytes as f64 / GIBIBYTE;
    let (reserved, limit) = (gibibytes(memory.reserved_mb), gibibytes(memory.limit_mb));
    format!("{} {reserved:.1} of {limit:.1} GiB reserved", memory.device)
}

#[cfg(test)]
mod tests {
    use ipc_protocol::ids::{JobId, ModelKey};
    use ipc_protocol::status::{Counters, QueuedStatus, SupervisorStatus};
    use tokio::net::UnixDatagram;
    use tokio::time::timeout;

    use super::*;
    use crate::driver::stand_in;

    const WATCHDOG: Duration = Duration::from_millis(40);
    const PATIENCE: Duration = Duration::from_secs(60);

    fn report() -> StatusReport {
        let job = |state: &str| QueuedStatus {
            job: JobId(1),
            model: ModelKey::new("syn").expect("a key"),
            state: state.into(),
            position: 0,
            waiting_s: 0.0,
            reason: String::new(),
        };
        StatusReport {
            supervisor: SupervisorStatus {
                pid: 1,
                version: "1".into(),
                state: "serving".into(),
                uptime_s: 1.0,
                draining_s: None,
                yielding_s: None,
                journal: "none".into(),
                journal_detail: String::new(),
                control_groups: "off".into(),
                control_groups_detail: String::new(),
                state_dir: None,
            },
            memory: vec![MemoryStatus {
                device: "host".into(),
                limit_mb: 18 * 1024,
                reserved_mb: 1536,
                measured_mb: None,
                foreign_mb: None,
                settling_mb: 0,
            }],
            workers: Vec::new(),
            models: Vec::new(),
            queue: vec![job("running"), job("waiting"), job("loading")],
            counters: Counters::default(),
            devices: Vec::new(),
        }
    }

    #[test]
    fn a_status_counts_jobs_and_memory() {
        assert_eq!(
            text(&report()),
            "serving: 0 of 0 workers ready, 1 job running, 2 waiting; host 1.5 of 18.0 GiB reserved"
        );
    }

    /// The next message within `patience`.
    async fn heard(manager: &UnixDatagram, patience: Duration) -> Option<String> {
        let mut bytes = [0; 256];
        let length = timeout(patience, manager.recv(&mut bytes)).await.ok()?;
        let length = length.expect("our own socket");
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[tokio::test]
    async fn a_loop_that_does_not_turn_is_neither_ready_nor_alive() {
        let (notifier, manager) = Notifier::pair(Some(WATCHDOG));
        let (handle, mut played) = stand_in::open();
        let signs = LifeSigns::new(Arc::new(notifier), handle, Clock::start());
        let signs = tokio::spawn(signs.send());
        let silent = WATCHDOG * 5;
        assert_eq!(heard(&manager, silent).await, None, "it does not turn yet");
        played.turn(&report()).await;
        played.turn(&report()).await;
        let status = heard(&manager, PATIENCE).await.expect("a status");
        assert!(status.starts_with("STATUS=serving: "), "{status}");
        let ready = heard(&manager, PATIENCE).await;
        assert_eq!(ready.as_deref(), Some("READY=1\n"));
        assert_eq!(heard(&manager, silent).await, None, "it hangs");
        for _ in 0..2 {
            played.turn(&report()).await;
            let alive = heard(&manager, PATIENCE).await;
            assert_eq!(alive.as_deref(), Some("WATCHDOG=1\n"));
        }
        signs.abort();
    }
}
