//! Encodes pictures beside the loop, at most half of the cores at a time.

use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;
use tokio::task;

use super::encode_error::EncodeError;

/// A bounded number of encoders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EncodePool {
    places: Arc<Semaphore>,
}

impl EncodePool {
    /// A pool for half of this machine's cores.
    pub fn start() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::of(cores / 2)
    }

    /// A pool of this many places, at least one.
    pub fn of(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.max(1))),
        }
    }

    /// Waits for a place, then encodes in a blocking thread. A caller that leaves before its turn costs nothing; an
    /// encoding that has begun is finished.
    ///
    /// # Errors
    /// The encoder's, or [`EncodeError::Panicked`].
    pub async fn encode<T: Send + 'static>(
        &self,
        encoder: impl FnOnce() -> Result<T, EncodeError> + Send + 'static,
    ) -> Result<T, EncodeError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let work = move || {
            let encoded = encoder();
            drop(place);
            encoded
        };
        match task::spawn_blocking(work).await {
            Ok(encoded) => encoded,
            Err(_) => Err(EncodeError::Panicked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn at_most_the_pools_number_encodes_at_a_time() {
        let pool = EncodePool::of(2);
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let encode = |nth: usize| {
            let (pool, inside, most) = (pool.clone(), Arc::clone(&inside), Arc::clone(&most));
            tokio::spawn(async move {
                let encoder = move || {
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    Ok(nth)
                };
                pool.encode(encoder).await
            })
        };
        let encoded: Vec<_> = (0..50).map(encode).collect();
        for (nth, encoded) in encoded.into_iter().enumerate() {
            let encoded = encoded.await.expect("the task ends");
            assert_eq!(encoded.expect("it cannot fail"), nth);
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_place_is_free_again_after_a_panic_and_after_a_caller_left() {
        let pool = EncodePool::of(1);
        let failed = pool.encode(|| -> Result<(), _> { panic!("on purpose") });
        assert!(matches!(failed.await, Err(EncodeError::Panicked)));
        let (release, released) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.encode(move || Ok(released.recv().is_ok())).await }
        });
        while pool.places.available_permits() > 0 {
            task::yield_now().await;
        }
        // It waits for the place and leaves.
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.encode(|| Ok(())).await }
        });
        second.abort();
        assert!(second.await.is_err_and(|error| error.is_cancelled()));
        release.send(()).expect("the first encoder waits");
        assert!(first.await.expect("it ends").expect("it cannot fail"));
        assert!(pool.encode(|| Ok(7)).await.is_ok_and(|seven| seven == 7));
    }
}
