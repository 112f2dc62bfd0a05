//! Processes that die, freeze and lie, at moments of chance. Counts are small by default;
//! `IMAGEPOOL_CHAOS_ROUNDS` sets them, `IMAGEPOOL_SEED` repeats a run.

mod clients;
mod crowds;
mod flood;
mod freeze;
mod full_folders;
mod gpus;
mod hostile;
mod http_clients;
mod kill_from_outside;
mod kill_private_pool;
mod kill_supervisor;
mod kill_worker;
mod leftovers;
mod outgrowing;
mod storm;
