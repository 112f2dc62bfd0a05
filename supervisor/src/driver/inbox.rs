//! The loop's inbox: a lane for each kind of source, so that none takes another's turn.
//!
//! Workers' messages are not here: each worker's link has a mailbox of its own. A client has one question on its
//! way at a time, because it waits for the answer.

use std::sync::Arc;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::messages::client::Told;
use tokio::sync::{Notify, mpsc, oneshot};

use super::ask::{Ask, gone};
use super::fetching::FetchUpdate;
use super::process_event::{ProcessEvent, WorkerProcessEvent};
use super::settings::SettingsNews;
use crate::probe::gpu::GpuAnswer;

/// Questions that may wait for the loop; further clients wait for room, first come, first served.
const ASKS_MAX: usize = 1024;
/// News of fetches that may wait; further fetches pause.
const FETCHES_MAX: usize = 64;
/// Commands that may wait.
const COMMANDS_MAX: usize = 16;

/// A command of the process that the loop runs in.
#[derive(Debug)]
pub(super) enum LoopCommand {
    /// End, with what is accepted or without.
    Drain { cancel: bool },
    /// Read the settings and every model's files again: SIGHUP.
    Reload(oneshot::Sender<Result<Told, Failure>>),
    /// Other programs were asked for the memory of a device.
    TruceAnswered(Device),
    /// End at once: the caller is gone.
    Abandon,
}

/// The loop's side.
#[derive(Debug)]
pub(super) struct Inbox {
    pub commands: mpsc::Receiver<LoopCommand>,
    /// Births and ends of workers: at most a few for each that the pool starts, so the lane needs no bound.
    pub lives: mpsc::UnboundedReceiver<WorkerProcessEvent>,
    pub asks: mpsc::Receiver<Ask>,
    pub fetches: mpsc::Receiver<FetchUpdate>,
    /// Answers of the GPU driver, or why there is none: at most one at a time.
    pub gpus: mpsc::UnboundedReceiver<Result<GpuAnswer, String>>,
    /// Settings that were read: at most one at a time.
    pub settings: mpsc::UnboundedReceiver<SettingsNews>,
    bell: Arc<Notify>,
}

/// The other side. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    commands: mpsc::Sender<LoopCommand>,
    lives: mpsc::UnboundedSender<WorkerProcessEvent>,
    asks: mpsc::Sender<Ask>,
    fetches: mpsc::Sender<FetchUpdate>,
    gpus: mpsc::UnboundedSender<Result<GpuAnswer, String>>,
    settings: mpsc::UnboundedSender<SettingsNews>,
    bell: Arc<Notify>,
}

/// Both sides.
pub(super) fn open() -> (Outbox, Inbox) {
    let (to_commands, commands) = mpsc::channel(COMMANDS_MAX);
    let (to_lives, lives) = mpsc::unbounded_channel();
    let (to_asks, asks) = mpsc::channel(ASKS_MAX);
    let (to_fetches, fetches) = mpsc::channel(FETCHES_MAX);
    let (to_gpus, gpus) = mpsc::unbounded_channel();
    let (to_settings, settings) = mpsc::unbounded_channel();
    let bell = Arc::new(Notify::new());
    let outbox = Outbox {
        commands: to_commands,
        lives: to_lives,
        asks: to_asks,
        fetches: to_fetches,
        gpus: to_gpus,
        settings: to_settings,
        bell: Arc::clone(&bell),
    };
    let inbox = Inbox {
        commands,
        lives,
        asks,
        fetches,
        gpus,
        settings,
        bell,
    };
    (outbox, inbox)
}

impl Inbox {
    /// Waits until something was brought since the last wait.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether anything waits.
    pub fn has_next(&self) -> bool {
        !(self.commands.is_empty()
            && self.lives.is_empty()
            && self.asks.is_empty()
            && self.fetches.is_empty()
            && self.gpus.is_empty()
            && self.settings.is_empty())
    }
}

impl Outbox {
    /// Wakes the loop.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    /// Gives the loop a command.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn command(&self, command: LoopCommand) -> Result<(), Failure> {
        let sent = self.commands.send(command).await;
        self.wake();
        sent.map_err(|_| gone())
    }

    /// Tells of a worker's birth or end, from anywhere.
    pub fn tell(&self, worker: Generation, news: ProcessEvent) {
        // Without a loop the daemon is ending.
        let _ = self.lives.send(WorkerProcessEvent { worker, news });
        self.wake();
    }

    /// Tells the GPU driver's answer.
    pub fn tell_of_gpus(&self, answer: Result<GpuAnswer, String>) {
        // Without a loop the daemon is ending.
        let _ = self.gpus.send(answer);
        self.wake();
    }

    /// Tells of settings that were read.
    pub fn tell_of_settings(&self, news: SettingsNews) {
        // Without a loop the daemon is ending.
        let _ = self.settings.send(news);
        self.wake();
    }

    /// Asks a question, as soon as there is room.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn ask(&self, ask: Ask) -> Result<(), Failure> {
        let sent = self.asks.send(ask).await;
        self.wake();
        sent.map_err(|_| gone())
    }

    /// Tells of a fetch, from a thread that may wait. Returns false once the loop has ended.
    pub fn tell_of_fetch(&self, news: FetchUpdate) -> bool {
        let sent = self.fetches.blocking_send(news).is_ok();
        self.wake();
        sent
    }

    /// Tells that a fetch or a look takes too long, from a task.
    pub async fn tell_late(&self, news: FetchUpdate) {
        // Without a loop the daemon is ending.
        let _ = self.fetches.send(news).await;
        self.wake();
    }

    /// Waits until the loop has ended.
    pub async fn closed(&self) {
        self.asks.closed().await;
    }
}
