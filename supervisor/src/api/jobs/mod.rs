//! The jobs of all clients, kept so that every door can list, follow, cancel and fetch them.
//!
//! - [`store`]: the [`JobStore`](store::JobStore), through which doors start requests and look at jobs
//! - [`start`]: a request on its way to become jobs, and one whose client stays; `tracking` follows both
//! - [`reader`]: the updates of one job, for readers who may come late; `ring` bounds them
//! - [`ended`]: a job that has ended, in a sentence
//! - [`facts`]: the lasting facts of a job; `record` adds its progress, `pace` estimates its end
//! - `journaling`: detached jobs on their way to the journal of the state folder, and back
//! - `table`: all records; `kept` bounds the pictures of detached jobs in time and memory

pub mod ended;
pub mod facts;
mod journaling;
mod kept;
mod pace;
pub mod reader;
mod record;
pub mod ring;
#[cfg(test)]
mod samples;
pub mod start;
pub mod store;
mod table;
mod tracking;
