//! A worker that misbehaves.
fn main() {}
