//! The models of this machine: what their files hold, which are offered, and how files arrive.
//!
//! - [`facts`] is what is known of files; [`manifest`] reads it from what the worker program prints, [`looks`] keeps it
//! - [`models`] makes the pool's registry and the catalogue from the settings' sections; [`served`] is one entry
//! - [`offer`] joins settings, fetched files and facts; [`library`] looks at files again, and fetches them

pub mod facts;
pub mod library;
pub mod looks;
pub mod manifest;
pub mod models;
pub mod offer;
pub mod served;
