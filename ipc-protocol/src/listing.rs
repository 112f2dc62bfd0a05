//! Answers of the daemon that arrive one after the other.

use interprocess::local_socket::Stream;

use crate::client_error::ClientError;
use crate::connection;
use crate::messages::client::FromPool;

/// A message of a listing.
#[derive(Debug)]
pub(crate) enum ListingPart<T> {
    /// The next entry.
    Next(T),
    /// No entry follows.
    End,
    /// A message that does not belong to the listing.
    Other(Box<FromPool>),
}

/// The entries of a listing, as they arrive. A listing that is followed ends only with the connection: drop the
/// client to end it.
#[derive(Debug)]
pub struct DaemonListing<'a, T> {
    stream: &'a Stream,
    part: fn(FromPool) -> ListingPart<T>,
    ended: bool,
}

impl<'a, T> DaemonListing<'a, T> {
    pub(crate) fn new(stream: &'a Stream, part: fn(FromPool) -> ListingPart<T>) -> Self {
        Self {
            stream,
            part,
            ended: false,
        }
    }

    fn receive(&self) -> Result<Option<T>, ClientError> {
        let message = connection::read(&mut &*self.stream)?;
        match (self.part)(message) {
            ListingPart::Next(entry) => Ok(Some(entry)),
            ListingPart::End => Ok(None),
            ListingPart::Other(other) => match *other {
                FromPool::Refused(failure) => Err(failure.into()),
                other => Err(ClientError::unexpected(&other)),
            },
        }
    }
}

impl<T> Iterator for DaemonListing<'_, T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let received = self.receive();
        self.ended = !matches!(received, Ok(Some(_)));
        received.transpose()
    }
}
