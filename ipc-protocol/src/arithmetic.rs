//! The arithmetic of a model: dtype, placement of the text encoders, and the way of decoding.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

/// The arithmetic of a model, from its section in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Arithmetic {
    /// The dtype of the encoders and the transformer.
    pub dtype: Dtype,
    /// Placement of the text encoders between two prompts.
    pub encoders: Encoders,
}

/// The dtype in which values are held and computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits with values up to 65504.
    F16,
    /// The usual one of the device: f32 on a CPU, bf16 on a GPU.
    #[default]
    Auto,
}

impl Dtype {
    /// The name of the dtype in settings and receipts.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::F32, Self::Bf16, Self::F16, Self::Auto]
            .into_iter()
            .find(|dtype| dtype.word() == text)
            .ok_or_else(|| format!("{text:?} is not one of f32, bf16, f16, auto"))
    }
}

/// The placement of text encoders between two prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum Encoders {
    /// They stay on the model's device.
    #[default]
    Keep,
    /// They are loaded for a prompt and freed after it.
    Drop,
    /// They stay in the host's memory and encode there.
    Cpu,
}

impl Encoders {
    /// The name in settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Cpu => "cpu",
        }
    }
}

impl fmt::Display for Encoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Encoders {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Keep, Self::Drop, Self::Cpu]
            .into_iter()
            .find(|encoders| encoders.word() == text)
            .ok_or_else(|| format!("{text:?} is not one of keep, drop, cpu"))
    }
}

/// The way of decoding latents to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum Decoding {
    /// At once.
    #[default]
    Whole,
    /// In overlapping tiles that are blended, which needs less memory.
    Tiled,
}

impl Decoding {
    /// The name in manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Tiled => "tiled",
        }
    }
}

impl fmt::Display for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Decoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Whole, Self::Tiled]
            .into_iter()
            .find(|decoding| decoding.word() == text)
            .ok_or_else(|| format!("{text:?} is not one of whole, tiled"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_value_and_others_are_refused() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::Auto] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        for encoders in [Encoders::Keep, Encoders::Drop, Encoders::Cpu] {
            assert_eq!(encoders.to_string().parse(), Ok(encoders));
        }
        for decoding in [Decoding::Whole, Decoding::Tiled] {
            assert_eq!(decoding.to_string().parse(), Ok(decoding));
        }
        let error = "f64".parse::<Dtype>().expect_err("no such dtype");
        assert_eq!(error, "\"f64\" is not one of f32, bf16, f16, auto");
        let error = "gpu".parse::<Encoders>().expect_err("no such place");
        assert_eq!(error, "\"gpu\" is not one of keep, drop, cpu");
    }
}
