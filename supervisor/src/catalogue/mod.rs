//! The models of this machine: their files, their properties, and how they are fetched.
//!
//! - [`facts`] are the properties of model files; [`manifest`] parses them from the worker program's output, and
//!   [`looks`] caches them
//! - [`placement`] chooses among the ways of placing a model on a CUDA device
//! - [`models`] builds the pool's registry and the catalogue from the settings; [`served`] is one entry
//! - [`difference`] compares the models of two settings files
//! - [`offer`] joins settings, fetched files and facts; [`library`] inspects files again, and fetches them

pub mod difference;
pub mod facts;
pub mod library;
pub mod looks;
pub mod manifest;
pub mod models;
pub mod offer;
pub mod placement;
pub mod served;
