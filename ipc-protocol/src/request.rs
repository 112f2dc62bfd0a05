//! A client's request, every field bounded before it is sent.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::failure::{Failure, Field};
use crate::ids::DeviceWish;
use crate::units::PictureSize;

/// Bytes of prompt and negative prompt together that fit a frame whatever the daemon's own limit is.
pub const TEXT_BYTES_MAX: usize = 60 * 1024;
/// Images one request may ask for.
pub const COUNT_MAX: u32 = 100;

/// The priority class of a job; within a class, users share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Priority {
    /// A person waits for the picture.
    High,
    /// The default.
    #[default]
    Normal,
    /// Whenever nothing else waits.
    Low,
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "high" => Ok(Self::High),
            "normal" => Ok(Self::Normal),
            "low" => Ok(Self::Low),
            _ => Err(format!("{text:?} is not one of high, normal, low")),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        })
    }
}

/// A request for `count` pictures. What is `None` is the model's default.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ImageRequest {
    /// The prompt.
    pub prompt: String,
    /// A registry key or alias; `None` is the daemon's default model.
    pub model: Option<String>,
    /// Pixels of the picture.
    pub size: Option<PictureSize>,
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Classifier-free guidance scale.
    pub guidance: Option<f32>,
    /// The negative prompt; only if the guidance is above 1.
    pub negative: Option<String>,
    /// Image i has seed + i (wrapping); `None` draws one and reports it.
    pub seed: Option<u64>,
    /// Pictures wanted, at least 1.
    pub count: u32,
    /// A wish for the placement.
    pub device: DeviceWish,
    /// The class it waits in.
    pub priority: Priority,
    /// The answer is worth nothing after this many milliseconds.
    pub timeout_ms: Option<u64>,
    /// On whose behalf, where the peer may say so.
    pub user: Option<String>,
    /// The jobs outlive this connection.
    pub detached: bool,
    /// Send a preview with each step.
    pub previews: bool,
}

impl ImageRequest {
    /// A request for one picture of `prompt` with every default.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            model: None,
            size: None,
            steps: None,
            guidance: None,
            negative: None,
            seed: None,
            count: 1,
            device: DeviceWish::Auto,
            priority: Priority::Normal,
            timeout_ms: None,
            user: None,
            detached: false,
            previews: false,
        }
    }

    /// Checks what holds for every model and every daemon, so that the request can be sent at all.
    ///
    /// # Errors
    /// A failure of kind `BadValue` that names the field.
    pub fn check(&self) -> Result<(), Failure> {
        let text = self.prompt.len() + self.negative.as_ref().map_or(0, String::len);
        if text > TEXT_BYTES_MAX {
            return Err(Failure::bad_value(
                Field::Prompt,
                format!("{text} bytes of text are more than the {TEXT_BYTES_MAX} that can be sent"),
            ));
        }
        if !(1..=COUNT_MAX).contains(&self.count) {
            return Err(Failure::bad_value(
                Field::Count,
                format!(
                    "{} pictures asked for, 1 to {COUNT_MAX} possible",
                    self.count
                ),
            ));
        }
        if self.guidance.is_some_and(|guidance| !guidance.is_finite()) {
            return Err(Failure::bad_value(Field::Guidance, "not a finite number"));
        }
        Ok(())
    }
}
