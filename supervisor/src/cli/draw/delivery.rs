//! Writes and reports the pictures of one request as they arrive.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::client::{Drawing, Picture, Update};
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::reading::{Reading, UnknownWord};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::counted;
use serde_json::Value;

use super::output::PictureOutput;
use super::progress::{DAEMON_LOST, ProgressDisplay};
use super::show;
use crate::cli::json_output::JsonOutput;
use crate::cli::{CommandError, say};
use crate::picture::file::{self, Metadata};
use crate::picture::format::{PictureFormat, Quality};
use crate::picture::receipt::Receipt;

/// The pictures of one request, on their way to files.
pub struct Delivery<'a> {
    /// The values chosen for the request.
    pub accepted: Accepted,
    pub progress: ProgressDisplay,
    /// The request, for the receipts.
    pub request: &'a ImageRequest,
    pub output: PictureOutput,
    pub format: PictureFormat,
    pub options: DeliveryOptions,
    /// A line about the loss of the daemon is printed.
    pub is_lost: Cell<bool>,
}

/// How pictures are written and reported.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryOptions {
    /// Whether to write the receipt and the mark into the file.
    pub has_metadata: bool,
    /// Whether to show each picture in the terminal.
    pub show: bool,
    pub json: JsonOutput,
    pub quiet: bool,
    /// Whether the output has a file for one picture only, whatever its index.
    pub is_single: bool,
}

impl Delivery<'_> {
    /// Takes all updates; returns the exit code. Failures are printed as they arrive, except the last, which is
    /// returned.
    ///
    /// # Errors
    /// The last failure, `Interrupted` if `interrupted` is set.
    pub fn run(&self, drawing: Drawing<'_>, interrupted: &AtomicBool) -> Result<u8, CommandError> {
        let mut failed: Option<CommandError> = None;
        let is_remarked = Cell::new(false);
        for update in drawing {
            let taken = match update {
                Ok(update) => self.take(update, &is_remarked).err(),
                // The connection was ended here.
                Err(_) if interrupted.load(Ordering::Acquire) => Some(CommandError::Interrupted),
                Err(error) => {
                    self.progress.finish();
                    return Err(error.into());
                }
            };
            let earlier = taken.and_then(|error| failed.replace(error));
            // Every failure is printed: the last one by the caller, the earlier ones here.
            if let Some(earlier) = earlier.filter(|_| !interrupted.load(Ordering::Acquire)) {
                let json = self.options.json;
                self.progress.above(|| earlier.tell(json));
            }
        }
        self.progress.finish();
        match failed {
            Some(_) if interrupted.load(Ordering::Acquire) => Err(CommandError::Interrupted),
            Some(error) => Err(error),
            None => Ok(0),
        }
    }

    fn take(&self, update: Update, is_remarked: &Cell<bool>) -> Result<(), CommandError> {
        self.progress.take(&update);
        match update {
            Update::Picture(picture) => {
                if !is_remarked.replace(true) {
                    self.remark(&picture.report.reading);
                }
                self.finish(&picture)
            }
            Update::Failed { failure, .. } => Err(failure.into()),
            Update::DaemonLost => {
                if !self.options.quiet && !self.is_lost.replace(true) {
                    self.progress.say(DAEMON_LOST);
                }
                Ok(())
            }
            Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Step { .. }
            | Update::Preview { .. }
            | Update::AcceptedAgain(_) => Ok(()),
        }
    }

    fn finish(&self, picture: &Picture) -> Result<(), CommandError> {
        let receipt = Receipt::of(self.request, &self.accepted, &picture.report);
        let wanted = picture.report.metadata && self.options.has_metadata;
        let metadata = Metadata::of(receipt, wanted);
        let quality = Quality::of(self.format);
        let bytes = file::file(picture.size, &picture.rgb8, self.format, quality, &metadata)
            .map_err(|error| CommandError::Output(error.to_string()))?;
        let index = match self.options.is_single {
            true => 0,
            false => picture.index,
        };
        let file = self.output.write(index, picture.job, &bytes)?;
        if self.options.show {
            // An error only loses the view: the file is written.
            let _ = self.progress.above(|| show::show(picture));
        }
        self.tell(picture, &file);
        Ok(())
    }

    /// Warns if the prompt was cut or has words that the model does not know.
    fn remark(&self, reading: &Reading) {
        if self.options.quiet {
            return;
        }
        for remark in reading.remarks(self.accepted.model.as_str()) {
            self.progress.say(&format!("imagepool: warning: {remark}"));
        }
    }

    fn tell(&self, picture: &Picture, file: &str) {
        let report = &picture.report;
        // If the picture is on stdout, the line goes to stderr.
        let to_stdout = matches!(self.output, PictureOutput::Stdout);
        let line = if self.options.json != JsonOutput::None {
            let line = serde_json::json!({
                "job": picture.job.0, "index": picture.index, "file": file,
                "model": self.accepted.model.as_str(), "seed": report.seed,
                "width": picture.size.width, "height": picture.size.height,
                "steps": self.accepted.steps, "worker": report.worker.to_string(),
                "attempts": report.attempts, "resumed_from_step": report.resume_step,
                "queue_ms": report.queue_ms, "load_ms": report.load_ms,
                "denoise_ms": report.denoise_ms, "decode_ms": report.decode_ms,
            });
            with_reading(line, &report.reading).to_string()
        } else if self.options.quiet {
            return;
        } else {
            format!(
                "{file}: {} by {}, seed {}, {}, {:.2} s",
                picture.size,
                self.accepted.model,
                report.seed,
                counted(self.accepted.steps.into(), "step"),
                (report.denoise_ms + report.decode_ms) as f64 / 1000.0
            )
        };
        match to_stdout {
            true => self.progress.say(&line),
            false => self.progress.above(|| say::line(line)),
        }
    }
}

/// Adds to the JSON line whether the prompt was cut, and its unknown words.
fn with_reading(mut line: Value, reading: &Reading) -> Value {
    if reading.was_cut {
        line["prompt_cut"] = true.into();
    }
    if !reading.unknown.is_empty() {
        let told = |unknown: &UnknownWord| serde_json::json!({"word": unknown.word, "nearest": unknown.nearest});
        line["unknown_words"] = reading.unknown.iter().map(told).collect();
    }
    line
}
