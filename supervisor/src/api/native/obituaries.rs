//! Obituaries at the native door, for operators only.
//!
//! A worker's last lines may quote the requests of other users.

use ipc_protocol::connection::ConnectionError;
use ipc_protocol::messages::client::{FromPool, Target};

use super::conversation::ConnectedClient;

impl ConnectedClient {
    /// Sends the newest obituaries, at most `most`.
    pub async fn obituaries(&mut self, of: Target, most: u32) -> Result<(), ConnectionError> {
        if let Err(failure) = self.rights.check_operator("read obituaries") {
            return self.refuse(failure).await;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let obituaries = match self.context.handle.obituaries(of, most).await {
            Ok(obituaries) => obituaries,
            Err(failure) => return self.refuse(failure).await,
        };
        for obituary in obituaries {
            let obituary = Box::new((*obituary).clone());
            self.say(&FromPool::Obituary(obituary)).await?;
        }
        self.say(&FromPool::ObituariesEnd).await
    }
}
