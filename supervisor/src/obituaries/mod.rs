//! The obituaries: records of workers that ended.
//!
//! - [`store`] keeps them in memory and answers questions about them
//! - [`folder`] reads and writes their files; [`writer`] does that in a thread of its own

pub mod folder;
pub mod store;
pub mod writer;
