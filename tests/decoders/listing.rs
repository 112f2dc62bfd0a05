//! The fetch program's parser of a hub's pages. That program is no library, so its file is compiled here again.

#[path = "../../supervisor/fetch/src/listing_page.rs"]
mod listing_page;

pub use listing_page::append;
