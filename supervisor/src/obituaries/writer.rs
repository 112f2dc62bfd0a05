//! Writes obituaries in a thread of its own, so that a slow disk does not block the loop.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use ipc_protocol::obituary::Obituary;

use super::folder::ObituaryFolder;
use crate::telemetry;

/// Orders that may wait for the disk; further obituaries are not written.
const ORDERS_MAX: usize = 64;
/// How long writing the last obituaries may take after the loop has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// The loop's side of the thread.
#[derive(Debug)]
pub struct ObituaryWriter(SyncSender<WriterOrder>);

#[derive(Debug)]
enum WriterOrder {
    Write(Arc<Obituary>),
    Remove(Arc<Obituary>),
    /// Answered as soon as all orders before it are done.
    Flush(SyncSender<()>),
}

impl ObituaryWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(folder: ObituaryFolder) -> io::Result<Self> {
        let (sender, orders) = mpsc::sync_channel(ORDERS_MAX);
        thread::Builder::new()
            .name("obituaries".into())
            .spawn(move || carry_out(&folder, &orders))?;
        Ok(Self(sender))
    }

    /// Writes an obituary soon.
    pub fn write(&self, obituary: Arc<Obituary>) {
        if self.0.try_send(WriterOrder::Write(obituary)).is_err() {
            telemetry::daemon::obituary_not_written(&"the disk is too slow");
        }
    }

    /// Removes the file of an obituary soon.
    pub fn remove(&self, obituary: Arc<Obituary>) {
        // If the disk is too slow, the file is removed later for its age.
        let _ = self.0.try_send(WriterOrder::Remove(obituary));
    }

    /// Waits until all obituaries are written, for at most `PATIENCE`.
    pub fn finish(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.0.try_send(WriterOrder::Flush(done)).is_ok() {
            // Too slow a disk loses them.
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

fn carry_out(folder: &ObituaryFolder, orders: &Receiver<WriterOrder>) {
    for order in orders {
        match order {
            WriterOrder::Write(obituary) => {
                if let Err(error) = folder.write(&obituary) {
                    telemetry::daemon::obituary_not_written(&error);
                }
            }
            WriterOrder::Remove(obituary) => folder.remove(&obituary),
            WriterOrder::Flush(done) => {
                // Fails only if the caller no longer waits.
                let _ = done.try_send(());
            }
        }
    }
}
