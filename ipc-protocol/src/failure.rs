//! Failures that a client gets: their kind, the field at fault, a sentence, and when to retry.

use std::fmt;

use bincode::{Decode, Encode};

use crate::untrusted::Untrusted;

/// The field of a request that caused a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Field {
    /// The prompt.
    Prompt,
    /// Width and height in pixels.
    Size,
    /// Number of denoising steps.
    Steps,
    /// Key or alias of the model.
    Model,
    /// Seed of the noise.
    Seed,
    /// Guidance scale.
    Guidance,
    /// Negative prompt.
    Negative,
    /// The output file.
    Output,
    /// Number of pictures.
    Count,
    /// The requested device.
    Device,
    /// The user on whose behalf the request is made.
    User,
    /// Time limit.
    Timeout,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 12] = [
        Self::Prompt,
        Self::Size,
        Self::Steps,
        Self::Model,
        Self::Seed,
        Self::Guidance,
        Self::Negative,
        Self::Output,
        Self::Count,
        Self::Device,
        Self::User,
        Self::Timeout,
    ];

    /// The field with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.to_string() == word)
    }
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

/// The kind of a failure. Doors translate it (exit code, HTTP status), so that no program has to parse the
/// sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum FailureKind {
    /// A value of the request is invalid or not supported; `field` names it.
    BadValue,
    /// No model has that key or alias.
    UnknownModel,
    /// The job needs more memory than the device has, even after every other worker is evicted.
    NeverFits,
    /// There is no memory for a worker now.
    MemoryExhausted,
    /// The queue is full.
    QueueFull,
    /// The pool finishes accepted jobs and accepts no new ones.
    Draining,
    /// An operator stopped the model.
    Stopped,
    /// Loading the model failed; it is tried again after a cool-down.
    LoadRefused,
    /// The model's workers failed too often; its circuit breaker is open.
    ModelBroken,
    /// The same request crashed workers before and is not tried again.
    Quarantined,
    /// Cancelled by a client or operator.
    Cancelled,
    /// The time limit passed.
    DeadlineExceeded,
    /// Every attempt lost its worker to an outside cause; a later retry can succeed.
    WorkerLost,
    /// The model produced values that are not finite, or failed otherwise while it ran.
    ModelFailed,
    /// The client's user may not do this.
    NotPermitted,
    /// No worker, model or job has the given name.
    NoSuchName,
    /// A defect of the daemon.
    Internal,
    /// The model's files are not on this machine and could not be fetched.
    ModelMissing,
    /// The model's files are damaged, not readable or do not match each other.
    ModelUnusable,
    /// The model's files are still being inspected.
    ModelUnread,
    /// The picture of a finished job is not kept any longer, or never was.
    PictureGone,
    /// The user's quota of jobs is used up for now.
    QuotaExceeded,
    /// The daemon cannot write a detached job to its journal, so that it would not outlive the daemon.
    NotKept,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::BadValue,
        Self::UnknownModel,
        Self::NeverFits,
        Self::MemoryExhausted,
        Self::QueueFull,
        Self::Draining,
        Self::Stopped,
        Self::LoadRefused,
        Self::ModelBroken,
        Self::Quarantined,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::WorkerLost,
        Self::ModelFailed,
        Self::NotPermitted,
        Self::NoSuchName,
        Self::Internal,
        Self::ModelMissing,
        Self::ModelUnusable,
        Self::ModelUnread,
        Self::PictureGone,
        Self::QuotaExceeded,
        Self::NotKept,
    ];

    /// The kind with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The name of the kind in JSON, logs and metrics.
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
            Self::PictureGone => "picture_gone",
            Self::QuotaExceeded => "quota_exceeded",
            Self::NotKept => "not_kept",
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

    /// The exit code of a command that fails with this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::BadValue | Self::UnknownModel => 2,
            Self::QueueFull
            | Self::QuotaExceeded
            | Self::Draining
            | Self::Stopped
            | Self::ModelMissing
            | Self::ModelUnread
            | Self::LoadRefused
            | Self::ModelBroken
            | Self::WorkerLost
            | Self::NotKept => 75,
            Self::DeadlineExceeded => 124,
            Self::NotPermitted | Self::NoSuchName => 4,
            Self::NeverFits
            | Self::MemoryExhausted
            | Self::Quarantined
            | Self::Cancelled
            | Self::ModelFailed
            | Self::ModelUnusable
            | Self::PictureGone
            | Self::Internal => 1,
        }
    }
}

/// The longest message that is sent; longer ones are cut.
const MESSAGE_BYTES_MAX: usize = 3 * 1024;

/// The answer to a job or request that did not end in a picture.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The field at fault, for refused values.
    pub field: Option<Field>,
    /// One sentence for the user.
    pub message: String,
    /// Milliseconds after which a retry may succeed.
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

    /// A failure of kind `BadValue` for `field`.
    pub fn bad_value(field: Field, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(FailureKind::BadValue, message)
        }
    }

    /// Cuts the message to the length that fits its frame; a worker's text may be longer.
    pub fn fitting(mut self) -> Self {
        let end = self.message.floor_char_boundary(MESSAGE_BYTES_MAX);
        self.message.truncate(end);
        self
    }

    /// Sets the time after which a retry may succeed, in milliseconds.
    pub fn retry_after_ms(self, ms: u64) -> Self {
        Self {
            retry_after_ms: Some(ms),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The message may contain text of a worker, and come from a daemon that did not escape it.
        let message = Untrusted::new(&self.message);
        match self.field {
            Some(field) => write!(f, "{field}: {message}"),
            None => write!(f, "{message}"),
        }
    }
}

impl std::error::Error for Failure {}
