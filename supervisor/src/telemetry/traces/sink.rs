//! The way of finished spans out of the loop: bounded, and never blocking. Spans that find no place are counted.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use super::super::daemon::{SpanLoss, SpansDropped};
use super::span::Span;

/// Most spans that wait for the program that sends them.
const SPANS_MAX: usize = 4096;

/// Takes finished spans. Cheap to clone; when the last one is dropped, the other side ends.
#[derive(Debug, Clone)]
pub struct SpanSink(SyncSender<String>);

/// Both ends: spans go in, and come out as lines of JSON.
pub fn open() -> (SpanSink, Receiver<String>) {
    let (sender, lines) = mpsc::sync_channel(SPANS_MAX);
    (SpanSink(sender), lines)
}

impl SpanSink {
    /// Queues a span, or counts it as dropped.
    pub fn offer(&self, span: &Span) {
        match self.0.try_send(span.line()) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let reason = SpanLoss::QueueFull;
                SpansDropped { count: 1, reason }.tell(None);
            }
        }
    }
}
