//! A client's request for pictures, with limits that are checked before it is sent.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::failure::{Failure, Field};
use crate::ids::DeviceConstraint;
use crate::units::PictureSize;

/// The largest size of prompt and negative prompt together that fits a frame. A daemon's own limit may be
/// lower.
pub const TEXT_BYTES_MAX: usize = 60 * 1024;
/// The largest number of pictures in one request.
pub const COUNT_MAX: u32 = 100;

/// The priority class of a job. Within a class, users get equal shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Priority {
    /// For a user who is watching.
    High,
    /// The default.
    #[default]
    Normal,
    /// After all other jobs.
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

/// A request for `count` pictures. `None` stands for a default.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ImageRequest {
    /// The prompt.
    pub prompt: String,
    /// Key or alias of the model; `None` is the daemon's default model.
    pub model: Option<String>,
    /// Size of the picture; `None` is the model's default.
    pub size: Option<PictureSize>,
    /// Number of denoising steps; `None` is the model's default.
    pub steps: Option<u32>,
    /// Scale of classifier-free guidance; `None` is the model's default.
    pub guidance: Option<f32>,
    /// The negative prompt; allowed only if the guidance is above 1.
    pub negative: Option<String>,
    /// Seed of the first picture; picture i has seed + i (wrapping). `None` lets the daemon choose one.
    pub seed: Option<u64>,
    /// Number of pictures, at least 1.
    pub count: u32,
    /// The device to run on.
    pub device: DeviceConstraint,
    /// The priority class of the jobs.
    pub priority: Priority,
    /// Milliseconds after which the jobs fail.
    pub timeout_ms: Option<u64>,
    /// The user on whose behalf the request is made, if the peer may choose one.
    pub user: Option<String>,
    /// True if the jobs continue without the client, and their pictures are kept for a while. Nothing follows
    /// the acceptance.
    pub detached: bool,
    /// True if the client wants a preview with each step.
    pub previews: bool,
}

impl ImageRequest {
    /// A request for one picture of `prompt`, with default values.
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
            device: DeviceConstraint::Auto,
            priority: Priority::Normal,
            timeout_ms: None,
            user: None,
            detached: false,
            previews: false,
        }
    }

    /// Checks the limits that are the same for every model and daemon, so that the request fits a frame.
    ///
    /// # Errors
    /// `BadValue` with the field at fault.
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
                    "{} pictures are not possible: ask for 1 to {COUNT_MAX}",
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
