//! The checks of a machine, each in a function of the facts that all of them share.
//!
//! - [`machine`]: the settings, the folders and the daemon, looked up once
//! - [`settings`], [`programs`], [`folders`], [`service`]: our own files and processes
//! - [`memory`], [`limits`], [`groups`], [`sandbox`], [`disk`], [`clock`], [`gpu`]: the machine and its kernel

mod clock;
mod disk;
mod folders;
mod gpu;
mod groups;
mod limits;
pub mod machine;
mod memory;
mod programs;
mod sandbox;
mod service;
mod settings;

use super::result::CheckResult;
use machine::Machine;

/// Every check, in the order of printing.
pub const ALL: &[fn(&Machine) -> Vec<CheckResult>] = &[
    settings::check,
    programs::check,
    folders::runtime,
    folders::daemon,
    folders::state,
    memory::amount,
    memory::overcommit,
    memory::shared,
    memory::segment,
    limits::check,
    groups::check,
    sandbox::check,
    disk::check,
    gpu::check,
    clock::check,
    service::check,
];
