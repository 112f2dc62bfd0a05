//! The HTTP door: OpenAI's image API, the pool's own routes, and the page, on a Unix socket and on TCP.
//!
//! - [`server`] accepts connections, `connection` serves one with its time limits
//! - `guard` checks host, origin, kind of body and [`tokens`] by the [`policy`]; `caller` is the sender of a request
//! - `routes` is the table of all routes; `context` is their shared state
//! - [`error`] is the answer of a request that failed; `json` and `fields` read a body, `json_with_files` writes one
//! - `page`: the page for people, at `/`
//! - `size` is the size to draw, `ordered_pictures` waits for pictures, `encoder` makes their files, `forms` remembers
//!   the forms that detached jobs ordered
//! - `images`: OpenAI's images; `models`: its list of models
//! - `openapi` describes all routes
//! - `sdapi`: the API of A1111's web UI
//! - `files`: pictures under addresses that cannot be guessed, kept in `picture_files`; `secret` names them
//! - `health`: whether the daemon lives and can draw, and its metrics; `trace` reads the caller's trace
//! - `pool`: status, events, jobs and models of the pool

mod base64;
pub mod bodies;
mod caller;
mod connection;
mod context;
mod encoder;
pub mod error;
mod fields;
mod files;
mod forms;
mod guard;
mod health;
mod images;
mod json;
mod json_with_files;
mod models;
mod openapi;
mod ordered_pictures;
mod page;
mod picture_files;
pub mod policy;
mod pool;
mod routes;
mod sdapi;
mod secret;
pub mod server;
mod size;
pub mod tokens;
mod trace;
