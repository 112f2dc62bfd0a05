//! `imagepool generate`: draws pictures from a prompt and writes them.

use std::cell::Cell;
use std::str::FromStr;
use std::time::Duration;

use ipc_protocol::client::ClientError;
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::request::{COUNT_MAX, ImageRequest};

use super::delivery::{Delivery, DeliveryOptions};
use super::output::PictureOutput;
use super::progress::{FetchDisplay, ProgressDisplay};
use super::{interrupt, prompt};
use crate::cli::args::{ConnectOptions, Generate};
use crate::cli::daemon::connect;
use crate::cli::json_output::JsonOutput;
use crate::cli::{CommandError, number, say};
use crate::picture::format;

/// Runs the command; returns the exit code.
pub fn run(
    reach: &ConnectOptions,
    arguments: Generate,
    json: JsonOutput,
) -> Result<u8, CommandError> {
    let request = request(&arguments)?;
    if request.detached {
        return detach(reach, &request, json != JsonOutput::None);
    }
    let name = arguments.output.as_deref();
    let format = format::choose(arguments.format, name)?;
    let output = PictureOutput::prepare(name, request.count, arguments.force, format)?;
    let (mut client, private) = connect::pool(reach)?;
    let canceller = client.canceller();
    let mut fetch = FetchDisplay::new(reach.quiet);
    let drawing = client.generate_told(&request, |news| fetch.show(&news));
    fetch.finish();
    let drawing = drawing?;
    connect::say_who_draws(reach, private.as_ref());
    super::warn_of_format(reach, format, name);
    let interrupted = interrupt::cancels(canceller);
    let delivery = Delivery {
        accepted: drawing.accepted.clone(),
        progress: ProgressDisplay::start(&drawing.accepted, reach.quiet),
        request: &request,
        output,
        format,
        options: DeliveryOptions {
            has_metadata: !arguments.no_metadata,
            show: arguments.show,
            json,
            quiet: reach.quiet,
            is_single: false,
        },
        is_lost: Cell::default(),
    };
    delivery.run(drawing, &interrupted)
}

/// `--detach`: prints the ids of the accepted jobs, one a line.
fn detach(reach: &ConnectOptions, request: &ImageRequest, json: bool) -> Result<u8, CommandError> {
    if reach.private {
        let message = "--detach needs a daemon that keeps the job: a private pool ends with this call; leave out --private or --detach";
        return Err(Failure::new(FailureKind::BadValue, message).into());
    }
    let mut client = connect::daemon(reach).map_err(|error| match error {
        ClientError::NoDaemonAnywhere { .. } => CommandError::NoKeeper(error),
        other => other.into(),
    })?;
    let mut fetch = FetchDisplay::new(reach.quiet);
    let drawing = client.generate_told(request, |news| fetch.show(&news));
    fetch.finish();
    let accepted = drawing?.accepted;
    for index in 0..accepted.count {
        tell_detached(&accepted, index, json);
    }
    if !json && !reach.quiet {
        let first = accepted.first;
        say::aside(format_args!(
            "imagepool: the daemon draws on; `imagepool wait {first}` gets the picture, `imagepool jobs` lists the jobs"
        ));
    }
    Ok(0)
}

fn tell_detached(accepted: &Accepted, index: u32, json: bool) {
    let job = accepted.first.0 + u64::from(index);
    match json {
        false => say::line(job),
        true => say::line(serde_json::json!({
            "job": job, "index": index, "model": accepted.model.as_str(),
            "seed": accepted.seed.wrapping_add(u64::from(index)),
            "width": accepted.size.width, "height": accepted.size.height, "steps": accepted.steps,
        })),
    }
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
    request.detached = arguments.detach;
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
