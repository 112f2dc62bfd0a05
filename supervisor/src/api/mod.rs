//! The daemon's doors: they translate client messages and make no decisions.
//!
//! - [`native`]: the door for frames, on a Unix socket
//! - [`http`]: the door for HTTP, on a Unix socket and on TCP
//! - [`jobs`]: the jobs that doors start, kept for all of them
//! - [`socket_file`]: a Unix socket and its file; `folder_watch` notices when it is removed,
//!   [`runtime_folder`] keeps its folder
//! - [`places`] bounds the clients of all doors, and [`unsent`] the bytes that wait for them; `stall` ends the connections
//!   of clients that take none
//! - [`reply`]: a finished picture in the words of `ipc_protocol`, and its receipt
//! - [`rights`]: the rights of a client
//! - [`settings`]: reads the settings again

mod folder_watch;
pub mod http;
pub mod jobs;
pub mod native;
pub mod places;
pub mod reply;
pub mod rights;
pub mod runtime_folder;
pub mod settings;
pub mod socket_file;
mod stall;
pub mod unsent;
