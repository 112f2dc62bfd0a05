//! The leash of a private daemon: the socket on descriptor 0, which closes when the caller exits.
//!
//! A separate thread waits for that from the start of the process, before settings are read or folders are
//! opened. So the process ends even if something else hangs.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Exit code of a private daemon that did not shut down in time after its caller exited.
pub const CALLER_GONE: i32 = 84;
/// How long the daemon may take to shut down after its caller has exited.
const ORDERLY_MAX: Duration = Duration::from_secs(10);

/// The leash of this process.
#[derive(Debug)]
pub struct Leash {
    socket: UnixStream,
    /// Notified when the caller exits; `None` until the daemon serves.
    served: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Leash {
    /// Starts the thread that watches descriptor 0.
    ///
    /// # Errors
    /// No descriptor or thread is available, so the caller's exit would not be noticed.
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

    /// Sends one byte to the process that started the daemon: it serves now. The returned future completes when that
    /// process exits.
    ///
    /// # Errors
    /// The caller has exited.
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

/// Waits until the socket closes, gives the daemon [`ORDERLY_MAX`] to shut down, then exits the process.
fn end_with(mut socket: UnixStream, served: &Mutex<Option<oneshot::Sender<()>>>) {
    let mut byte = [0];
    loop {
        match socket.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The caller sends nothing, so any other result means that it has exited.
            Ok(_) | Err(_) => break,
        }
    }
    let told = served.lock().expect("no holder can panic").take();
    if let Some(told) = told
        && told.send(()).is_ok()
    {
        let (_nobody, end) = mpsc::channel::<()>();
        // Only waits: the process exits meanwhile, or the time is over.
        let _ = end.recv_timeout(ORDERLY_MAX);
    }
    process::exit(CALLER_GONE);
}
