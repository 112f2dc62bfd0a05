//! The API of A1111's web UI for Stable Diffusion: the routes under `/sdapi/v1/` that its clients use.
//!
//! - `routes` is their table, `context` their state
//! - `txt2img` draws, from an `order` to an `info`; `ongoing` are the requests that are being drawn
//! - `progress` tells how far the `current` one is, `interrupt` ends it
//! - `options` selects the model of a client, kept in `chosen_models`; `lists` are the values to choose from
//! - `detail` gives errors the field that these clients read

mod chosen_models;
mod context;
mod current;
pub mod detail;
mod info;
mod interrupt;
mod lists;
mod ongoing;
mod options;
pub(super) mod order;
mod progress;
pub mod routes;
mod txt2img;
