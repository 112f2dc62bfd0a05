//! The commands that draw: `generate`, `wait` and `replay`.
//!
//! - [`generate`] draws a prompt, which [`prompt`] reads; [`wait`] gets the picture of a detached job; [`replay`]
//!   draws the receipt in a file
//! - [`delivery`] writes and reports pictures as they arrive
//! - [`output`] names the files of all pictures; [`destination`] writes one of them
//! - [`progress`] shows a bar ([`forecast`] computes the remaining time), [`show`] prints the picture in the
//!   terminal, [`interrupt`] cancels on Ctrl-C

pub mod delivery;
pub mod destination;
pub mod forecast;
pub mod generate;
pub mod interrupt;
pub mod output;
pub mod progress;
pub mod prompt;
pub mod replay;
pub mod show;
pub mod wait;

use super::args::ConnectOptions;
use super::say;
use crate::picture::format::{self, PictureFormat};

/// Warns if the name of the output does not match the format.
fn warn_of_format(reach: &ConnectOptions, format: PictureFormat, name: Option<&str>) {
    let contradiction = format::contradiction(format, name);
    if let Some(warning) = contradiction.filter(|_| !reach.quiet) {
        say::aside(format_args!("imagepool: warning: {warning}"));
    }
}
