//! `imagepool generate`: draws pictures from a prompt and writes them.

use std::cell::Cell;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_protocol::client::{Picture, Update};
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::reading::{Reading, UnknownWord};
use ipc_protocol::request::{COUNT_MAX, ImageRequest};
use serde_json::Value;

use super::output::PictureOutput;
use super::progress::ProgressDisplay;
use super::{interrupt, prompt, show};
use crate::cli::args::{ConnectOptions, Generate};
use crate::cli::daemon::connect;
use crate::cli::{CommandError, number, say};
use crate::picture::file::{self, Metadata};
use crate::picture::format::{self, PictureFormat, Quality};
use crate::picture::receipt::Receipt;

/// Runs the command; returns the exit code.
pub fn run(reach: &ConnectOptions, arguments: Generate, json: bool) -> Result<u8, CommandError> {
    if arguments.detach {
        return Err(CommandError::NotBuilt("--detach"));
    }
    let request = request(&arguments)?;
    let format = format::choose(arguments.format, arguments.output.as_deref())?;
    let output = PictureOutput::prepare(
        arguments.output.as_deref(),
        request.count,
        arguments.force,
        format,
    )?;
    let (mut client, private) = connect::pool(reach)?;
    let canceller = client.canceller();
    let mut fetch = None;
    let drawing = client.generate_told(&request, |far| {
        fetch
            .get_or_insert_with(|| ProgressDisplay::of_fetch(far.model.as_str(), reach.quiet))
            .fetched(far.here_bytes, far.all_bytes);
    })?;
    if let Some(fetch) = fetch {
        fetch.finish();
    }
    connect::say_who_draws(reach, private.as_ref());
    let contradiction = format::contradiction(format, arguments.output.as_deref());
    if let Some(warning) = contradiction.filter(|_| !reach.quiet) {
        say::aside(format_args!("imagepool: warning: {warning}"));
    }
    let interrupted = interrupt::cancels(canceller, &drawing.accepted);
    let easel = RequestOutput {
        accepted: drawing.accepted.clone(),
        progress: ProgressDisplay::start(&drawing.accepted, reach.quiet),
        request: &request,
        arguments: &arguments,
        output,
        format,
        json,
        quiet: reach.quiet,
        remarked: Cell::new(false),
    };
    let mut failed: Option<CommandError> = None;
    for update in drawing {
        let taken = easel.take(update?).err();
        let earlier = taken.and_then(|error| failed.replace(error));
        // Every failure is printed: the last one by the caller, the earlier ones here.
        if let Some(earlier) = earlier.filter(|_| !interrupted.load(Ordering::Acquire)) {
            earlier.tell(json);
        }
    }
    easel.progress.finish();
    match failed {
        Some(_) if interrupted.load(Ordering::Acquire) => Err(CommandError::Interrupted),
        Some(error) => Err(error),
        None => Ok(0),
    }
}

/// Encodes, writes and reports the pictures of one request.
struct RequestOutput<'a> {
    accepted: Accepted,
    progress: ProgressDisplay,
    request: &'a ImageRequest,
    arguments: &'a Generate,
    output: PictureOutput,
    format: PictureFormat,
    json: bool,
    quiet: bool,
    remarked: Cell<bool>,
}

impl RequestOutput<'_> {
    fn take(&self, update: Update) -> Result<(), CommandError> {
        self.progress.take(&update);
        match update {
            Update::Picture(picture) => self.finish(&picture),
            Update::Failed { failure, .. } => Err(failure.into()),
            Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Step { .. }
            | Update::Preview { .. } => Ok(()),
        }
    }

    fn finish(&self, picture: &Picture) -> Result<(), CommandError> {
        self.remark(&picture.report.reading);
        let receipt = Receipt::of(self.request, &self.accepted, &picture.report);
        let metadata = Metadata::of(receipt, !self.arguments.no_metadata);
        let quality = Quality::of(self.format);
        let bytes = file::file(picture.size, &picture.rgb8, self.format, quality, &metadata)
            .map_err(|error| CommandError::Output(error.to_string()))?;
        let file = self.output.write(picture.index, picture.job, &bytes)?;
        if self.arguments.show {
            // An error only loses the view: the file is written.
            let _ = show::show(picture);
        }
        self.tell(picture, &file);
        Ok(())
    }

    /// Warns once per request if the prompt was cut or has words that the model does not know.
    fn remark(&self, reading: &Reading) {
        if self.quiet || self.remarked.replace(true) {
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
        let line = if self.json {
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
        } else if self.quiet {
            return;
        } else {
            format!(
                "{file}: {} by {}, seed {}, {} steps, {:.2} s",
                picture.size,
                self.accepted.model,
                report.seed,
                self.accepted.steps,
                (report.denoise_ms + report.decode_ms) as f64 / 1000.0
            )
        };
        match to_stdout {
            true => self.progress.say(&line),
            false => say::line(line),
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

/// Parses the arguments; errors name the field.
fn request(arguments: &Generate) -> Result<ImageRequest, Failure> {
    let mut request = ImageRequest::new(prompt::read(&arguments.prompt)?);
    request.model = arguments.model.clone();
    request.size = word(Field::Size, arguments.size.as_deref())?;
    let steps = arguments.steps.as_deref();
    let takes = "a whole number, 1 or more, up to the model's limit";
    request.steps = number::option(Field::Steps, "--steps", steps, takes)?;
    let guidance = arguments.guidance.as_deref();
    let takes = "a number, 0 or more, up to the model's limit";
    request.guidance = number::option(Field::Guidance, "--guidance", guidance, takes)?;
    request.negative = arguments.negative.clone();
    let seed = arguments.seed.as_deref();
    let takes = format!("a whole number from 0 to {}", u64::MAX);
    request.seed = number::option(Field::Seed, "--seed", seed, &takes)?;
    let takes = format!("a whole number from 1 to {COUNT_MAX}");
    request.count =
        number::option(Field::Count, "-n", Some(&arguments.count), &takes)?.unwrap_or(1);
    request.device = word(Field::Device, arguments.device.as_deref())?.unwrap_or_default();
    if let Some(priority) = &arguments.priority {
        let refused = |why| Failure::new(FailureKind::BadValue, format!("--priority: {why}"));
        request.priority = priority.parse().map_err(refused)?;
    }
    request.timeout_ms = arguments.timeout.as_deref().map(timeout_ms).transpose()?;
    request.user = arguments.user.clone();
    request.check()?;
    Ok(request)
}

/// Parses a value whose own error is the message.
fn word<T: FromStr<Err = String>>(field: Field, text: Option<&str>) -> Result<Option<T>, Failure> {
    text.map(str::parse)
        .transpose()
        .map_err(|why| Failure::bad_value(field, why))
}

fn timeout_ms(text: &str) -> Result<u64, Failure> {
    let takes = "seconds above 0, like 30 or 0.5";
    let seconds = number::option(Field::Timeout, "--timeout", Some(text), takes)?.unwrap_or(0.0);
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() => Ok(u64::try_from(timeout.as_millis())
            .unwrap_or(u64::MAX)
            .max(1)),
        _ => {
            let message = format!("{text:?} is invalid: --timeout takes {takes}");
            Err(Failure::bad_value(Field::Timeout, message))
        }
    }
}
