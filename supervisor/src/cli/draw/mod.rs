//! The commands that draw: `generate` and `replay`.
//!
//! - [`generate`] draws a prompt, which [`prompt`] reads; [`replay`] draws the receipt in a file
//! - [`output`] names the files of all pictures; [`destination`] writes one of them
//! - [`progress`] shows a bar ([`forecast`] computes the remaining time), [`show`] prints the picture in the
//!   terminal, [`interrupt`] cancels on Ctrl-C

pub mod destination;
pub mod forecast;
pub mod generate;
pub mod interrupt;
pub mod output;
pub mod progress;
pub mod prompt;
pub mod replay;
pub mod show;
