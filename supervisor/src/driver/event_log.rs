//! The newest events of the pool, and the clients that follow them.

use std::collections::VecDeque;
use std::sync::Arc;

use ipc_protocol::event::EventReport;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events that are kept for clients that come later, and events that a client may be behind; older ones are lost.
const EVENTS_KEPT: usize = 256;

/// The newest events, and the channel to the clients that follow them.
#[derive(Debug)]
pub(super) struct EventLog {
    newest: VecDeque<Arc<EventReport>>,
    live: broadcast::Sender<Arc<EventReport>>,
}

/// The events that a client gets.
#[derive(Debug)]
pub struct EventFeed {
    /// The newest events at the time of the question, oldest first.
    pub kept: Vec<Arc<EventReport>>,
    live: broadcast::Receiver<Arc<EventReport>>,
    /// When the last event happened that the client has got.
    last_us: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            newest: VecDeque::new(),
            live: broadcast::channel(EVENTS_KEPT).0,
        }
    }
}

impl EventLog {
    pub fn publish(&mut self, report: EventReport) {
        let report = Arc::new(report);
        if self.newest.len() == EVENTS_KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(Arc::clone(&report));
        let _ = self.live.send(report); // Fails only if no client follows.
    }

    /// The channel to the clients that follow.
    pub fn live(&self) -> broadcast::Sender<Arc<EventReport>> {
        self.live.clone()
    }

    /// The kept events, and every event after them.
    pub fn feed(&self) -> EventFeed {
        EventFeed {
            kept: self.newest.iter().cloned().collect(),
            live: self.live.subscribe(),
            last_us: self.newest.back().map_or(0, |newest| newest.t_us),
        }
    }
}

impl EventFeed {
    /// Waits for the next event after the kept ones. A client that is too slow gets an event `missed` with the number
    /// of those that it lost. `None` once the loop has ended.
    pub async fn next(&mut self) -> Option<Arc<EventReport>> {
        match self.live.recv().await {
            Ok(report) => {
                self.last_us = report.t_us;
                Some(report)
            }
            Err(RecvError::Lagged(count)) => {
                Some(Arc::new(EventReport::missed(self.last_us, count)))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(nth: u64) -> EventReport {
        EventReport {
            t_us: nth,
            event: "ready".into(),
            facts: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_slow_client_is_told_how_many_events_it_missed() {
        let mut log = EventLog::default();
        log.publish(event(1));
        let mut feed = log.feed();
        assert_eq!(feed.kept.len(), 1);
        let most = EVENTS_KEPT as u64;
        for nth in 2..most + 5 {
            log.publish(event(nth));
        }
        let missed = feed.next().await.expect("it follows");
        assert_eq!(*missed, EventReport::missed(1, 3));
        assert_eq!(feed.next().await.expect("the oldest kept").t_us, 5);
        assert_eq!(log.feed().kept.len(), EVENTS_KEPT);
        assert_eq!(log.feed().kept[0].t_us, 5);
        drop(log);
        while feed.next().await.is_some() {}
    }
}
