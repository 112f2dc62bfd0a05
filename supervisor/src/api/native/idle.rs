//! Clients that ask for nothing: the first to leave when descriptors run out.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The idle clients of a door.
#[derive(Debug, Default)]
pub struct IdleClients {
    count: AtomicUsize,
    leave: Notify,
}

impl IdleClients {
    /// Waits until this client has to leave; the one that is idle for longest has to first.
    pub async fn has_to_leave(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let _counted = Counted(self);
        self.leave.notified().await;
    }

    /// Ends the longest idle client, and says whether there is one.
    pub fn end_one(&self) -> bool {
        let any = self.count.load(Ordering::Acquire) > 0;
        if any {
            self.leave.notify_one();
        }
        any
    }
}

/// One idle client, until it is not.
struct Counted<'a>(&'a IdleClients);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_longest_idle_client_leaves_first_and_a_busy_one_never() {
        let idle = IdleClients::default();
        assert!(!idle.end_one(), "nobody is idle");
        let mut context = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (pin!(idle.has_to_leave()), pin!(idle.has_to_leave()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(idle.end_one());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(first.as_mut().poll(&mut context).is_ready());
    }
}
