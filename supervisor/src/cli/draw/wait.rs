//! `imagepool wait`: waits for a job of an earlier request and writes its picture.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::client::ClientError;
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::request::ImageRequest;

use super::delivery::{Delivery, DeliveryOptions};
use super::interrupt;
use super::output::PictureOutput;
use super::progress::{FetchDisplay, ProgressDisplay};
use crate::cli::CommandError;
use crate::cli::args::{ConnectOptions, Wait};
use crate::cli::daemon::connect;
use crate::cli::json_output::JsonOutput;
use crate::picture::format;

/// Runs the command; returns the exit code. Ctrl-C ends the wait, and the job continues.
pub fn run(reach: &ConnectOptions, arguments: &Wait, json: JsonOutput) -> Result<u8, CommandError> {
    let name = arguments.output.as_deref();
    let format = format::choose(arguments.format, name)?;
    let output = PictureOutput::prepare(name, 1, arguments.force, format)?;
    let mut client = connect::daemon(reach)?;
    let interrupted = interrupt::leaves(client.canceller());
    let mut fetch = FetchDisplay::new(reach.quiet);
    let waited = client.wait(JobId(arguments.job), |news| fetch.show(&news));
    fetch.finish();
    let (texts, drawing) = waited.map_err(|error| cause(error, &interrupted))?;
    super::warn_of_format(reach, format, name);
    let request = ImageRequest {
        negative: texts.negative,
        ..ImageRequest::new(texts.prompt)
    };
    let one = Accepted {
        count: 1,
        ..drawing.accepted.clone()
    };
    let delivery = Delivery {
        accepted: drawing.accepted.clone(),
        progress: ProgressDisplay::start(&one, reach.quiet),
        request: &request,
        output,
        format,
        options: DeliveryOptions {
            has_metadata: !arguments.no_metadata,
            show: arguments.show,
            json,
            quiet: reach.quiet,
            is_single: true,
        },
        is_lost: Cell::default(),
    };
    delivery.run(drawing, &interrupted)
}

/// The error of a wait: `Interrupted` if the connection was ended by Ctrl-C.
fn cause(error: ClientError, interrupted: &AtomicBool) -> CommandError {
    match interrupted.load(Ordering::Acquire) {
        true => CommandError::Interrupted,
        false => error.into(),
    }
}
