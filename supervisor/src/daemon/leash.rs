//! The socket on descriptor 0 of a private daemon: its end is the caller's, and ends the daemon.
//!
//! A thread of its own waits for it from the first instruction on, before settings are read or folders are
//! looked at. What may hang or lack threads later cannot keep the process.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Exit code of a private daemon whose caller is gone, where it did not end in order.
pub const CALLER_GONE: i32 = 84;
/// How long a daemon that serves may take to end its workers once the caller is gone.
const ORDERLY_MAX: Duration = Duration::from_secs(10);

/// The leash of this process.
#[derive(Debug)]
pub struct Leash {
    socket: UnixStream,
    /// Hears of the caller's end; nobody before the daemon serves.
    served: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Leash {
    /// Takes up descriptor 0 and watches it.
    ///
    /// # Errors
    /// No descriptor or no thread is to be had: nothing would notice the caller's end.
    pub fn hold() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let watched = socket.try_clone()?;
        let served = Arc::new(Mutex::new(None));
        let told = Arc::clone(&served);
        thread::Builder::new()
            .name("leash".into())
            .spawn(move || end_with(watched, &told))?;
        Ok(Self { socket, served })
    }

    /// Says one byte to the caller: the daemon serves. The future ends with the caller.
    ///
    /// # Errors
    /// The caller is gone already.
    pub fn serves(mut self) -> io::Result<impl Future<Output = ()>> {
        let (told, gone) = oneshot::channel();
        *self.served.lock().expect("no holder can panic") = Some(told);
        self.socket.write_all(b"+")?;
        Ok(async move {
            // The sender lives as long as the process.
            let _ = gone.await;
        })
    }
}

/// Waits for the end of the socket and then for the end of the process, which is exited in the end.
fn end_with(mut socket: UnixStream, served: &Mutex<Option<oneshot::Sender<()>>>) {
    let mut byte = [0];
    loop {
        match socket.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The caller never speaks, so whatever else ends this wait is its end.
            Ok(_) | Err(_) => break,
        }
    }
    let told = served.lock().expect("no holder can panic").take();
    if let Some(told) = told
        && told.send(()).is_ok()
    {
        let (_nobody, end) = mpsc::channel::<()>();
        // Nothing comes: the process ends meanwhile, or it is late.
        let _ = end.recv_timeout(ORDERLY_MAX);
    }
    process::exit(CALLER_GONE);
}
