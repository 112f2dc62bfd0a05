//! The commands that draw: `generate` and `replay`.
//!
//! - [`generate`] draws a prompt, [`replay`] the receipt in a file; [`prompt`] reads the text
//! - [`output`] is where the pictures go, [`destination`] one such place
//! - [`progress`] is what a terminal shows meanwhile ([`forecast`] computes the remaining time), [`show`] prints
//!   the picture in the terminal, [`interrupt`] cancels on Ctrl-C

pub mod destination;
pub mod forecast;
pub mod generate;
pub mod interrupt;
pub mod output;
pub mod progress;
pub mod prompt;
pub mod replay;
pub mod show;
