//! A stream that ends when its reader stops reading.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::unsent::{ClientBytes, StandingClient, UnsentBytes};

/// How long a client may take none of its bytes, in steps of [`STEP`].
const STEPS_MAX: u32 = 100;
/// Steps after which a client does not pause any longer, but stands still: one that has read before, and one that has not.
const PAUSE_STEPS: u32 = 5;
const FIRST_PAUSE_STEPS: u32 = 2;
/// A client that has taken more bytes than this reads: no socket buffer of ours holds them.
const BUFFERED_BYTES_MAX: usize = 512 << 10;
/// How long a client that takes nothing is safe, however many bytes wait.
const STEP: Duration = Duration::from_millis(100);

/// A stream whose writes fail with `TimedOut` if the other side takes nothing for 10 s, or for less while too many bytes wait for
/// clients in all.
#[derive(Debug)]
pub(super) struct StallLimited<T> {
    inner: T,
    unsent: UnsentBytes,
    bytes: ClientBytes,
    /// Bytes written so far.
    written: usize,
    /// While a write waits.
    stall: Option<Stall>,
}

/// A time in which the other side takes nothing.
#[derive(Debug)]
struct Stall {
    step: Pin<Box<Sleep>>,
    steps: u32,
    client: StandingClient,
}

impl<T> StallLimited<T> {
    /// A stream for a client with these bytes.
    pub fn new(inner: T, unsent: UnsentBytes, bytes: ClientBytes) -> Self {
        Self {
            inner,
            unsent,
            bytes,
            written: 0,
            stall: None,
        }
    }

    /// Passes the result of a write on, unless it has waited too long.
    fn limited<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Stall {
            step: Box::pin(sleep(STEP)),
            steps: 0,
            client: self.unsent.stopped(),
        });
        while stall.step.as_mut().poll(context).is_ready() {
            stall.steps += 1;
            let pause = match self.written > BUFFERED_BYTES_MAX {
                true => PAUSE_STEPS,
                false => FIRST_PAUSE_STEPS,
            };
            let pauses = stall.steps < pause;
            let has_to_go = stall.client.has_to_go(self.bytes.get(), pauses);
            if has_to_go || stall.steps >= STEPS_MAX {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            stall.step = Box::pin(sleep(STEP));
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StallLimited<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StallLimited<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.written = self.written.saturating_add(*bytes);
        }
        self.limited(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.limited(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const MB: u64 = 1 << 20;

    fn client(
        bytes: u64,
        all: &UnsentBytes,
    ) -> (
        StallLimited<tokio::io::DuplexStream>,
        tokio::io::DuplexStream,
    ) {
        let (ours, theirs) = tokio::io::duplex(16);
        let counted = ClientBytes::default();
        counted.set(bytes);
        (StallLimited::new(ours, all.clone(), counted), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_ends_the_stream_and_a_slow_one_does_not() {
        let (mut ours, mut theirs) = client(MB, &UnsentBytes::default());
        let reader = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..4 {
                sleep(Duration::from_secs(9)).await;
                theirs.read_exact(&mut taken).await.expect("there is more");
            }
            theirs
        });
        ours.write_all(&[1; 64]).await.expect("it reads on");
        let _theirs = reader.await.expect("the reader ends");
        let stopped = timeout(Duration::from_secs(11), ours.write_all(&[1; 64]));
        let error = stopped.await.expect("it ends").expect_err("it stopped");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_goes_at_once_if_too_many_bytes_wait() {
        let all = UnsentBytes::default();
        let (mut ours, _theirs) = client(100 * MB, &all);
        let (mut other, _still) = client(MB, &all);
        let other = tokio::spawn(async move { other.write_all(&[1; 64]).await });
        let stopped = timeout(Duration::from_secs(2), ours.write_all(&[1; 64]));
        let error = stopped.await.expect("it ends").expect_err("it stopped");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        other.abort();
    }
}
