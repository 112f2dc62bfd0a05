//! Real processes, one file per promise.
