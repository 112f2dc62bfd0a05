//! System calls that fail: the nth of a kind, in a worker or in the daemon.
//!
//! strace makes them fail. `IMAGEPOOL_CHAOS_ROUNDS` says how many calls of a kind fail, one in each run.

mod daemon;
mod strace;
mod worker;
