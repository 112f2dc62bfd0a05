//! The idle clients of a door; their connections are closed first when file descriptors run out.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct IdleClients {
    count: AtomicUsize,
    leave: Notify,
}

impl IdleClients {
    /// Waits until this client must be disconnected. The client that has been idle longest comes first.
    pub async fn has_to_leave(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let _counted = Counted(self);
        self.leave.notified().await;
    }

    /// Disconnects the client that has been idle longest. Returns whether there was one.
    pub fn end_one(&self) -> bool {
        let any = self.count.load(Ordering::Acquire) > 0;
        if any {
            self.leave.notify_one();
        }
        any
    }
}

/// Counts a client as idle until dropped.
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
    fn the_longest_idle_client_is_disconnected_first_and_a_busy_one_never() {
        let idle = IdleClients::default();
        assert!(!idle.end_one(), "no client is idle");
        let mut context = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (pin!(idle.has_to_leave()), pin!(idle.has_to_leave()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(idle.end_one());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(first.as_mut().poll(&mut context).is_ready());
    }
}
