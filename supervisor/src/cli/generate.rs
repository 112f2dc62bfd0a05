//! `imagepool generate`: a prompt in, pictures out.

use std::cell::Cell;
use std::io::Read;
use std::sync::atomic::Ordering;

use ipc_protocol::client::{Picture, Update};
use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::reading::{Reading, UnknownWord};
use ipc_protocol::request::ImageRequest;
use serde_json::Value;

use super::args::{Format, Generate, Reach};
use super::output::{self, Output};
use super::progress::Progress;
use super::receipt::Receipt;
use super::{CommandError, connect, encode, interrupt, say, show};

/// Draws; returns the exit code.
pub fn run(reach: &Reach, arguments: Generate, json: bool) -> Result<u8, CommandError> {
    if arguments.detach {
        return Err(CommandError::NotBuilt("--detach"));
    }
    let request = request(&arguments)?;
    let format = output::format(arguments.format, arguments.output.as_deref());
    let output = Output::prepare(
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
            .get_or_insert_with(|| Progress::of_fetch(far.model.as_str(), reach.quiet))
            .fetched(far.here_bytes, far.all_bytes);
    })?;
    if let Some(fetch) = fetch {
        fetch.finish();
    }
    connect::say_who_draws(reach, private.as_ref());
    let interrupted = interrupt::cancels(canceller, &drawing.accepted);
    let easel = Easel {
        accepted: drawing.accepted.clone(),
        progress: Progress::start(&drawing.accepted, reach.quiet),
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
        // Each picture that failed is told; the last one by whoever called.
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

/// Where one request's pictures are finished.
struct Easel<'a> {
    accepted: Accepted,
    progress: Progress,
    request: &'a ImageRequest,
    arguments: &'a Generate,
    output: Output,
    format: Format,
    json: bool,
    quiet: bool,
    remarked: Cell<bool>,
}

impl Easel<'_> {
    fn take(&self, update: Update) -> Result<(), CommandError> {
        match update {
            Update::Waiting {
                position, reason, ..
            } => self.progress.waiting(position, &reason),
            Update::Loading { fraction, .. } => self.progress.loading(fraction),
            Update::Step { .. } => self.progress.stepped(),
            Update::Preview { .. } => {} // it asks for none
            Update::Picture(picture) => self.finish(&picture)?,
            Update::Failed { failure, .. } => return Err(failure.into()),
        }
        Ok(())
    }

    fn finish(&self, picture: &Picture) -> Result<(), CommandError> {
        self.remark(&picture.report.reading);
        let receipt = (!self.arguments.no_metadata)
            .then(|| Receipt::of(self.request, &self.accepted, picture));
        let bytes = encode::encode(picture, self.format, receipt.as_ref())
            .map_err(|error| CommandError::Output(error.to_string()))?;
        let file = self.output.write(picture.index, picture.job, &bytes)?;
        if self.arguments.show {
            // A terminal that takes no picture still has the file.
            let _ = show::show(picture);
        }
        self.tell(picture, &file);
        Ok(())
    }

    /// Says what the model did not take in; of several pictures of one prompt, only once.
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
        // A picture on stdout leaves no room for words there.
        let to_stdout = matches!(self.output, Output::Stdout);
        let line = if self.json {
            let line = serde_json::json!({
                "job": picture.job.0, "index": picture.index, "file": file,
                "model": self.accepted.model.as_str(), "seed": report.seed,
                "width": picture.size.width, "height": picture.size.height,
                "steps": self.accepted.steps, "worker": report.worker.to_string(),
                "attempts": report.attempts, "resumed_from_step": report.resumed_from_step,
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

/// Adds what the model did not take in; nothing when it took in all.
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

/// What was typed, as a request; a value that is none names its field.
fn request(arguments: &Generate) -> Result<ImageRequest, CommandError> {
    let mut request = ImageRequest::new(prompt(&arguments.prompt)?);
    request.model = arguments.model.clone();
    request.size = parse(Field::Size, arguments.size.as_deref())?;
    request.steps = parse(Field::Steps, arguments.steps.as_deref())?;
    request.guidance = parse(Field::Guidance, arguments.guidance.as_deref())?;
    request.negative = arguments.negative.clone();
    request.seed = parse(Field::Seed, arguments.seed.as_deref())?;
    request.count = parse(Field::Count, Some(&arguments.count))?.unwrap_or(1);
    request.device = parse(Field::Device, arguments.device.as_deref())?.unwrap_or_default();
    request.priority = arguments
        .priority
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|why: String| Failure::new(ipc_protocol::failure::FailureKind::BadValue, why))?
        .unwrap_or_default();
    request.timeout_ms = arguments.timeout.map(timeout_ms).transpose()?;
    request.user = arguments.user.clone();
    request.check()?;
    Ok(request)
}

fn prompt(argument: &str) -> Result<String, CommandError> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::bad_value(Field::Prompt, format!("cannot read stdin: {error}"))
        })?;
    Ok(text.trim_end_matches('\n').to_owned())
}

fn parse<T>(field: Field, text: Option<&str>) -> Result<Option<T>, Failure>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| {
        text.parse()
            .map_err(|why| Failure::bad_value(field, format!("{text:?}: {why}")))
    })
    .transpose()
}

fn timeout_ms(seconds: f64) -> Result<u64, Failure> {
    match std::time::Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() => Ok(u64::try_from(timeout.as_millis())
            .unwrap_or(u64::MAX)
            .max(1)),
        _ => Err(Failure::bad_value(
            Field::Timeout,
            format!("{seconds} is no time limit"),
        )),
    }
}
