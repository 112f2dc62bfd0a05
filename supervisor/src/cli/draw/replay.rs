//! `imagepool replay`: draws a picture again from its receipt and compares the pixels.

use std::path::Path;
use std::sync::atomic::Ordering;

use ipc_protocol::client::{Picture, Update};
use serde_json::{Map, Value, json};

use super::interrupt;
use super::progress::ProgressDisplay;
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::{CommandError, say};
use crate::picture::compare::{self, Change, PictureDistance};
use crate::picture::decode::{self, DecodedFile};
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
        distance: (picture.size == drawn.size)
            .then(|| PictureDistance::between(&drawn.rgb8, &picture.rgb8))
            .flatten(),
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
    let interrupted = interrupt::cancels(canceller, &accepted);
    let progress = ProgressDisplay::start(&accepted, reach.quiet);
    let mut answer = None;
    for update in drawing {
        let update = update?;
        progress.take(&update);
        match update {
            Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Step { .. }
            | Update::Preview { .. } => {}
            Update::Picture(picture) => answer = Some(Ok(*picture)),
            Update::Failed { failure, .. } => answer = Some(Err(failure)),
        }
    }
    progress.finish();
    let picture = match answer.expect("the updates end after the one answer of the one job") {
        Err(_) if interrupted.load(Ordering::Acquire) => return Err(CommandError::Interrupted),
        answer => answer?,
    };
    let now = Receipt::of(&request, &accepted, &picture);
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

/// The result of the comparison.
struct Finding {
    /// Difference of the pixels; `None` if the sizes differ.
    distance: Option<PictureDistance>,
    changes: Vec<Change>,
}

impl Finding {
    fn pixels_are_same(&self) -> bool {
        self.distance
            .is_some_and(|distance| distance.different == 0)
    }

    /// Whether pixels and inputs are the same. With other weights it is a different result, even if the pixels match.
    fn is_same(&self) -> bool {
        self.pixels_are_same() && !self.changes.iter().any(Change::matters)
    }

    fn lines(&self, file: &Path, drawn: &DecodedFile) -> Vec<String> {
        let file = file.display();
        let head = match (self.distance, self.is_same()) {
            (Some(distance), true) => format!(
                "{file}: identical: all {} bytes of its {} pixels are the same",
                distance.bytes, drawn.size
            ),
            (Some(distance), false) if distance.different == 0 => {
                format!("{file}: same pixels, but from other inputs than its receipt names")
            }
            (Some(distance), false) => format!("{file}: different: {distance}"),
            (None, _) => format!("{file}: different: its size is not the size in its receipt"),
        };
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
        json!({
            "file": file.display().to_string(),
            "model": receipt.model,
            "seed": receipt.seed,
            "same": self.is_same(),
            "identical": self.pixels_are_same(),
            "bytes": self.distance.map(|distance| distance.bytes),
            "different": self.distance.map(|distance| distance.different),
            "share": self.distance.map(PictureDistance::share),
            "largest": self.distance.map(|distance| distance.largest),
            "changed": changed,
        })
    }
}
