//! OpenAI's image API: `POST /v1/images/generations`.
//!
//! - `order` is what a body asks for, `quality` the steps of its word for it
//! - `generate` draws and answers at once, `stream` with events
//! - `answer` formats pictures and numbers of both; `partial` chooses which previews are sent

mod answer;
pub mod generate;
pub(super) mod order;
mod partial;
mod quality;
mod stream;
