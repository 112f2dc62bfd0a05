//! Logs, events and available models at the native door. Logs and events: what is kept, and then what comes, for as long
//! as the client reads.

use ipc_protocol::connection::ConnectionError;
use ipc_protocol::log::{LogLines, LogRequest, LogSource};
use ipc_protocol::messages::client::{AvailableModels, FromPool};

use super::conversation::ConnectedClient;
use crate::telemetry;

impl ConnectedClient {
    /// Sends the end of a log, and with `follow` its further lines. What workers write may contain prompts, so only
    /// operators may read it.
    pub async fn tail(&mut self, request: LogRequest) -> Result<(), ConnectionError> {
        if let Err(failure) = self.rights.check_operator("tail") {
            return self.refuse(failure).await;
        }
        let log = match request.source {
            LogSource::Daemon => telemetry::own_log(),
            LogSource::Worker(name) => match self.context.handle.log(name).await {
                Ok(log) => log,
                Err(failure) => return self.refuse(failure).await,
            },
        };
        let (newest, mut follower) = log.last(request.bytes);
        self.send_lines(newest).await?;
        if !request.follow {
            return self.say(&FromPool::LogEnd).await;
        }
        loop {
            tokio::select! {
                lines = follower.next() => self.send_lines(lines).await?,
                () = self.has_to_end() => return Err(ConnectionError::Closed),
            }
        }
    }

    async fn send_lines(&self, lines: LogLines) -> Result<(), ConnectionError> {
        if lines == LogLines::default() {
            return Ok(());
        }
        for part in lines.into_parts() {
            self.say(&FromPool::Log(part)).await?;
        }
        Ok(())
    }

    /// Sends the newest events, and with `follow` further ones.
    pub async fn events(&mut self, follow: bool) -> Result<(), ConnectionError> {
        let mut feed = match self.context.handle.events().await {
            Ok(feed) => feed,
            Err(failure) => return self.refuse(failure).await,
        };
        for event in std::mem::take(&mut feed.kept) {
            self.say(&FromPool::Event((*event).clone())).await?;
        }
        if !follow {
            return self.say(&FromPool::EventsEnd).await;
        }
        loop {
            tokio::select! {
                event = feed.next() => match event {
                    Some(event) => self.say(&FromPool::Event((*event).clone())).await?,
                    None => return Err(ConnectionError::Closed),
                },
                () = self.has_to_end() => return Err(ConnectionError::Closed),
            }
        }
    }

    /// Lists the models of the settings file.
    pub async fn list_available(&self) -> Result<(), ConnectionError> {
        let models = match self.context.handle.available().await {
            Ok(models) => models,
            Err(failure) => return self.refuse(failure).await,
        };
        let more = false;
        for part in (AvailableModels { models, more }).into_parts() {
            self.say(&FromPool::Available(part)).await?;
        }
        Ok(())
    }

    /// Waits until the client disconnects or sends another message, or until the loop has ended.
    async fn has_to_end(&mut self) {
        tokio::select! {
            _ = self.words.recv() => {}
            () = self.context.handle.ended() => {}
        }
    }
}
