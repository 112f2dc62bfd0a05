//! `imagepool replay`: draws a picture again from its receipt and compares pixels or files.

use std::path::Path;
use std::sync::atomic::Ordering;

use ipc_protocol::client::{Picture, Update};
use serde_json::{Map, Value, json};

use super::interrupt;
use super::progress::{DAEMON_LOST, ProgressDisplay};
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::{CommandError, say};
use crate::picture::compare::{self, Change, PictureDistance};
use crate::picture::decode::{self, DecodedFile, FilePixels};
use crate::picture::file::{self, Metadata};
use crate::picture::format::Quality;
use crate::picture::receipt::Receipt;

/// Exit code: same pixels, from the inputs that the receipt names.
const SAME: u8 = 0;
/// Exit code: different pixels or different inputs.
const OTHER: u8 = 1;

/// Runs the command; returns the exit code.
pub fn run(reach: &ConnectOptions, file: &Path, json: bool) -> Result<u8, CommandError> {
    let drawn = decode::read(file)?;
    let (picture, now) = draw(reach, &drawn.receipt)?;
    let finding = Finding {
        comparison: comparison(&drawn, &picture)?,
        changes: changes(&drawn, &picture, &now),
    };
    if json {
        say::line(finding.json(file, &drawn.receipt));
    } else if !reach.quiet {
        finding.lines(file, &drawn).iter().for_each(say::line);
    }
    Ok(if finding.is_same() { SAME } else { OTHER })
}

/// Draws the receipt in the pool that `generate` would use. Returns the new picture and its receipt.
fn draw(reach: &ConnectOptions, receipt: &Receipt) -> Result<(Picture, Receipt), CommandError> {
    let request = receipt.request()?;
    let (mut client, private) = connect::pool(reach)?;
    let canceller = client.canceller();
    let drawing = client.generate(&request)?;
    connect::say_who_draws(reach, private.as_ref());
    let accepted = drawing.accepted.clone();
    let interrupted = interrupt::cancels(canceller);
    let progress = ProgressDisplay::start(&accepted, reach.quiet);
    let mut answer = None;
    for update in drawing {
        let update = update?;
        progress.take(&update);
        match update {
            Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Step { .. }
            | Update::Preview { .. }
            | Update::AcceptedAgain(_) => {}
            Update::DaemonLost if reach.quiet => {}
            Update::DaemonLost => progress.say(DAEMON_LOST),
            Update::Picture(picture) => answer = Some(Ok(*picture)),
            Update::Failed { failure, .. } => answer = Some(Err(failure)),
        }
    }
    progress.finish();
    let picture = match answer.expect("the updates end after the one answer of the one job") {
        Err(_) if interrupted.load(Ordering::Acquire) => return Err(CommandError::Interrupted),
        answer => answer?,
    };
    let now = Receipt::of(&request, &accepted, &picture.report);
    Ok((picture, now))
}

/// Lists the inputs that changed. A changed size comes first: the file was cut or scaled after it was drawn.
fn changes(drawn: &DecodedFile, picture: &Picture, now: &Receipt) -> Vec<Change> {
    let mut changes = compare::changes(&drawn.receipt, now);
    if picture.size != drawn.size {
        let size = Change {
            field: "size",
            then: drawn.size.to_string(),
            now: picture.size.to_string(),
        };
        changes.insert(0, size);
    }
    changes
}

/// Compares the pixels. The exact pixels of a lossy file cannot be had again, so the new picture is encoded in the same
/// way, and the files are compared.
fn comparison(drawn: &DecodedFile, picture: &Picture) -> Result<Comparison, CommandError> {
    Ok(match &drawn.pixels {
        _ if picture.size != drawn.size => Comparison::OtherSize,
        FilePixels::Exact(rgb8) => PictureDistance::between(rgb8, &picture.rgb8)
            .map_or(Comparison::OtherSize, Comparison::Pixels),
        FilePixels::Lossy {
            format,
            quality,
            file,
        } => {
            let metadata = Metadata::of(drawn.receipt.clone(), true);
            let again = file::file(picture.size, &picture.rgb8, *format, *quality, &metadata)
                .map_err(|error| CommandError::Output(error.to_string()))?;
            Comparison::File {
                quality: *quality,
                bytes: file.len(),
                same: again == *file,
            }
        }
    })
}

/// A comparison of the new picture with the file.
#[derive(Clone, Copy)]
enum Comparison {
    /// The file was cut or scaled.
    OtherSize,
    /// Exact pixels were compared.
    Pixels(PictureDistance),
    /// A lossy file was compared with the new picture's file.
    File {
        quality: Quality,
        bytes: usize,
        same: bool,
    },
}

/// The result of a replay.
struct Finding {
    comparison: Comparison,
    changes: Vec<Change>,
}

impl Finding {
    fn pixels_are_same(&self) -> bool {
        match self.comparison {
            Comparison::OtherSize => false,
            Comparison::Pixels(distance) => distance.different == 0,
            Comparison::File { same, .. } => same,
        }
    }

    /// Whether pixels and inputs are the same. With other weights it is a different result, even if the pixels match.
    fn is_same(&self) -> bool {
        self.pixels_are_same() && !self.changes.iter().any(Change::matters)
    }

    fn lines(&self, file: &Path, drawn: &DecodedFile) -> Vec<String> {
        let head = match self.comparison {
            Comparison::OtherSize => "different: its size is not the size in its receipt".into(),
            _ if self.pixels_are_same() && !self.is_same() => {
                "same pixels, but from other inputs than its receipt names".into()
            }
            Comparison::Pixels(distance) if distance.different == 0 => format!(
                "identical: all {} bytes of its {} pixels are the same",
                distance.bytes, drawn.size
            ),
            Comparison::Pixels(distance) => format!("different: {distance}"),
            Comparison::File {
                quality,
                bytes,
                same: true,
            } => format!(
                "identical: encoded again at quality {}, all {bytes} bytes of the file are the same",
                quality.get()
            ),
            Comparison::File { quality, .. } => format!(
                "different: encoded again at quality {}, the new picture gives another file; by how much the \
                 pixels differ cannot be compared, because the format is lossy",
                quality.get()
            ),
        };
        let head = format!("{}: {head}", file.display());
        let changed = self.changes.iter().map(|change| {
            let Change { field, then, now } = change;
            format!("  {field}: {then:?} in the file, {now:?} now")
        });
        [head].into_iter().chain(changed).collect()
    }

    fn json(&self, file: &Path, receipt: &Receipt) -> Value {
        let changed: Map<String, Value> = self
            .changes
            .iter()
            .map(|change| {
                let values = json!({"file": change.then, "now": change.now});
                (change.field.to_owned(), values)
            })
            .collect();
        let distance = match self.comparison {
            Comparison::Pixels(distance) => Some(distance),
            Comparison::OtherSize | Comparison::File { .. } => None,
        };
        json!({
            "file": file.display().to_string(),
            "model": receipt.model,
            "seed": receipt.seed,
            "same": self.is_same(),
            "identical": self.pixels_are_same(),
            "lossy": matches!(self.comparison, Comparison::File { .. }),
            "bytes": distance.map(|distance| distance.bytes),
            "different": distance.map(|distance| distance.different),
            "share": distance.map(PictureDistance::share),
            "largest": distance.map(|distance| distance.largest),
            "changed": changed,
        })
    }
}
