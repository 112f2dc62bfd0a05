//! Why something failed: whose fault it was, what to say, and whether trying again can help.

use std::fmt;

use bincode::{Decode, Encode};

use crate::untrusted::Untrusted;

/// The field of a request that a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Field {
    /// The prompt.
    Prompt,
    /// Pixels.
    Size,
    /// Denoising steps.
    Steps,
    /// Registry key.
    Model,
    /// Seed of the noise.
    Seed,
    /// Guidance scale.
    Guidance,
    /// Negative prompt.
    Negative,
    /// Where the picture goes.
    Output,
    /// Number of pictures.
    Count,
    /// Placement wish.
    Device,
    /// On whose behalf.
    User,
    /// Time limit.
    Timeout,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prompt => "prompt",
            Self::Size => "size",
            Self::Steps => "steps",
            Self::Model => "model",
            Self::Seed => "seed",
            Self::Guidance => "guidance",
            Self::Negative => "negative",
            Self::Output => "output",
            Self::Count => "count",
            Self::Device => "device",
            Self::User => "user",
            Self::Timeout => "timeout",
        })
    }
}

/// The kind of a failure. Doors translate it (exit code, HTTP status); nobody parses sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum FailureKind {
    /// The request asks for something that is not offered; see `field`.
    BadValue,
    /// No model of that name.
    UnknownModel,
    /// More memory than the device has, even with everything else evicted.
    NeverFits,
    /// No room for a worker now.
    MemoryExhausted,
    /// The queue is full.
    QueueFull,
    /// The pool finishes what it has and takes nothing new.
    Draining,
    /// An operator stopped the model.
    Stopped,
    /// The model cannot be loaded at present; a cool-down runs.
    LoadRefused,
    /// The model failed too often; its breaker is open.
    ModelBroken,
    /// This very job killed workers before and is not tried again.
    Quarantined,
    /// Ended by a client or operator.
    Cancelled,
    /// The time limit passed.
    DeadlineExceeded,
    /// Every attempt lost its worker to something outside; trying again later can help.
    WorkerLost,
    /// The model produced values that are not finite, or failed in another way of its own.
    ModelFailed,
    /// The peer may not do this.
    NotPermitted,
    /// The name given means nothing here.
    NoSuchName,
    /// A defect of ours.
    Internal,
    /// The files of the model are not on this machine, and could not be fetched.
    ModelMissing,
    /// The files of the model are damaged, not readable or do not fit each other.
    ModelUnusable,
    /// The files of the model are still being looked at.
    ModelUnread,
}

impl FailureKind {
    /// The word for it in JSON, logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadValue => "bad_value",
            Self::UnknownModel => "unknown_model",
            Self::NeverFits => "never_fits",
            Self::MemoryExhausted => "memory_exhausted",
            Self::QueueFull => "queue_full",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::ModelMissing => "model_missing",
            Self::ModelUnusable => "model_unusable",
            Self::ModelUnread => "model_unread",
            Self::LoadRefused => "load_refused",
            Self::ModelBroken => "model_broken",
            Self::Quarantined => "quarantined",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::WorkerLost => "worker_lost",
            Self::ModelFailed => "model_failed",
            Self::NotPermitted => "not_permitted",
            Self::NoSuchName => "no_such_name",
            Self::Internal => "internal",
        }
    }

    /// The exit code of a command that ends with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::BadValue | Self::UnknownModel => 2,
            Self::QueueFull
            | Self::Draining
            | Self::Stopped
            | Self::ModelMissing
            | Self::ModelUnread
            | Self::LoadRefused
            | Self::ModelBroken
            | Self::WorkerLost => 75,
            Self::DeadlineExceeded => 124,
            Self::NotPermitted | Self::NoSuchName => 4,
            Self::NeverFits
            | Self::MemoryExhausted
            | Self::Quarantined
            | Self::Cancelled
            | Self::ModelFailed
            | Self::ModelUnusable
            | Self::Internal => 1,
        }
    }
}

/// The longest message that is sent.
const MESSAGE_BYTES_MAX: usize = 3 * 1024;

/// The one answer of a job or request that did not end in a picture.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The field to blame, for refused values.
    pub field: Option<Field>,
    /// One sentence for a person.
    pub message: String,
    /// When trying again may help.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure without field or retry time.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            field: None,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// A refused value of `field`.
    pub fn bad_value(field: Field, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(FailureKind::BadValue, message)
        }
    }

    /// The same failure with a message that fits its frame; a worker's words may be longer.
    pub fn fitting(mut self) -> Self {
        let end = self.message.floor_char_boundary(MESSAGE_BYTES_MAX);
        self.message.truncate(end);
        self
    }

    /// The same failure, worth trying again after `ms` milliseconds.
    pub fn retry_after_ms(self, ms: u64) -> Self {
        Self {
            retry_after_ms: Some(ms),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold a worker's words, and come from a daemon that did not look at them.
        let message = Untrusted::new(&self.message);
        match self.field {
            Some(field) => write!(f, "{field}: {message}"),
            None => write!(f, "{message}"),
        }
    }
}

impl std::error::Error for Failure {}
