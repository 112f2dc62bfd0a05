//! Models that come from a hub: which can be fetched, where they are kept, and what a fetch reports. No network.
//!
//! ```text
//!  release    which files of which repositories make a model, and under which licence
//!    │ order  the release, variant and revision to fetch, and how the hub may be used
//!    │ event  what the fetch program prints, one JSON object a line; trouble: why a fetch failed
//!    ▼
//!  store      KEY/VARIANT/COMMIT/ published in one rename, with a record of every file (lock: one fetch at a time)
//!    ▼
//!  verify     compares a published model with its record
//! ```
//!
//! [`digest`] and [`name`] check what a hub says of content and of file names. The daemon, `imagepool` and the
//! fetch program (`supervisor/fetch/`, the only one with a network) share this package.

pub mod digest;
pub mod event;
pub mod lock;
pub mod name;
pub mod order;
pub mod release;
mod store;
pub mod trouble;
pub mod verify;

pub use store::{FetchRecord, FetchedModel, RECORD, RecordedFile, Store};
