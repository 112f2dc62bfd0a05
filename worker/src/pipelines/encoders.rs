//! Where the text encoders live, and prompts that need not be encoded again.

use crate::fault::WorkerFault;
use candle_core::{Device, Tensor};
pub use ipc_protocol::arithmetic::Encoders;
use std::collections::VecDeque;

/// What encoders make of a prompt.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// States of all tokens, (1, s, width).
    pub text: Tensor,
    /// One state of the whole prompt, (1, width).
    pub pooled: Tensor,
}

impl Encoded {
    fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        size(&self.text) + size(&self.pooled)
    }

    fn on(&self, device: &Device) -> Result<Encoded, WorkerFault> {
        Ok(Encoded {
            text: self.text.to_device(device)?,
            pooled: self.pooled.to_device(device)?,
        })
    }
}

/// The device on which encoders run when the model is on `device`.
pub fn home(place: Encoders, device: &Device) -> Device {
    match place {
        Encoders::Keep | Encoders::Drop => device.clone(),
        Encoders::Cpu => Device::Cpu,
    }
}

/// Bytes of encoded prompts that are kept: a few of the published models' in f32.
pub const REMEMBERED_BYTES: usize = 16 << 20;

/// Encoded prompts, the one used last at the back, within a bound of bytes.
#[derive(Debug)]
struct Remembered {
    prompts: VecDeque<(String, Encoded)>,
    bytes: usize,
    limit: usize,
}

impl Remembered {
    fn find(&mut self, prompt: &str) -> Option<Encoded> {
        let place = self.prompts.iter().position(|(known, _)| known == prompt)?;
        let entry = self.prompts.remove(place)?;
        let encoded = entry.1.clone();
        self.prompts.push_back(entry);
        Some(encoded)
    }

    fn keep(&mut self, prompt: &str, encoded: &Encoded) {
        let size = |prompt: &str, encoded: &Encoded| prompt.len() + encoded.bytes();
        let bytes = size(prompt, encoded);
        if bytes > self.limit {
            return;
        }
        self.bytes += bytes;
        self.prompts.push_back((prompt.to_owned(), encoded.clone()));
        while self.bytes > self.limit {
            let Some((prompt, encoded)) = self.prompts.pop_front() else {
                return;
            };
            self.bytes -= size(&prompt, &encoded);
        }
    }
}

/// The encoders of one model, held or not.
#[derive(Debug)]
pub struct EncoderHold<E> {
    held: Option<E>,
    place: Encoders,
    remembered: Remembered,
    runs: u64,
}

impl<E> EncoderHold<E> {
    /// Takes encoders that were just loaded, and frees them again where they are not to stay: that they
    /// load is known then.
    pub fn new(encoders: E, place: Encoders) -> EncoderHold<E> {
        let remembered = Remembered {
            prompts: VecDeque::new(),
            bytes: 0,
            limit: REMEMBERED_BYTES,
        };
        EncoderHold {
            held: (place != Encoders::Drop).then_some(encoders),
            place,
            remembered,
            runs: 0,
        }
    }

    /// What becomes of them.
    pub fn residence(&self) -> Encoders {
        self.place
    }

    /// The encoders, when they are held.
    ///
    /// # Errors
    /// [`WorkerFault::Compute`] when they are not.
    pub fn held(&self) -> Result<&E, WorkerFault> {
        let absent = || WorkerFault::Compute("the encoders are not held".to_owned());
        self.held.as_ref().ok_or_else(absent)
    }

    /// The held encoders, for a test that spoils them.
    #[cfg(test)]
    pub(crate) fn held_mut(&mut self) -> Option<&mut E> {
        self.held.as_mut()
    }

    /// How many prompts were encoded and not remembered.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// The encoded prompt on `device`: remembered, or made by `run` with the held or freshly loaded encoders.
    ///
    /// # Errors
    /// Those of `load` and `run`.
    pub fn encode(
        &mut self,
        prompt: &str,
        device: &Device,
        load: impl FnOnce() -> Result<E, WorkerFault>,
        run: impl FnOnce(&E) -> Result<Encoded, WorkerFault>,
    ) -> Result<Encoded, WorkerFault> {
        if let Some(encoded) = self.remembered.find(prompt) {
            return Ok(encoded);
        }
        let encoded = match &self.held {
            Some(encoders) => run(encoders)?,
            None => run(&load()?)?,
        };
        self.runs += 1;
        let encoded = encoded.on(device)?;
        self.remembered.keep(prompt, &encoded);
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn encoded(values: usize) -> Result<Encoded, WorkerFault> {
        let text = Tensor::zeros((1, 1, values), DType::F32, &Device::Cpu)?;
        let pooled = Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?;
        Ok(Encoded { text, pooled })
    }

    fn ask(hold: &mut EncoderHold<usize>, prompt: &str) {
        let made = hold.encode(prompt, &Device::Cpu, || Ok(7), |e| encoded(*e));
        made.expect("a prompt");
    }

    #[test]
    fn a_repeated_prompt_spares_the_encoders_until_it_is_forgotten() {
        let mut hold = EncoderHold::new(7, Encoders::Keep);
        hold.remembered.limit = 2 * (7 * 4 + 4 + 1);
        for (prompt, runs) in [
            ("a", 1),
            ("a", 1),
            ("b", 2),
            ("a", 2),
            ("c", 3),
            ("a", 3),
            ("b", 4),
        ] {
            ask(&mut hold, prompt);
            assert_eq!(hold.runs(), runs, "{prompt}");
            assert!(hold.remembered.bytes <= hold.remembered.limit);
        }
    }

    #[test]
    fn a_prompt_beyond_the_bound_is_encoded_each_time_and_forgets_nothing() {
        let mut hold = EncoderHold::new(7, Encoders::Keep);
        hold.remembered.limit = 7 * 4 + 4 + 1;
        for (prompt, runs) in [("a", 1), ("longer", 2), ("longer", 3), ("a", 3)] {
            ask(&mut hold, prompt);
            assert_eq!(hold.runs(), runs, "{prompt}");
        }
    }

    #[test]
    fn dropped_encoders_are_not_held_and_loaded_for_each_new_prompt() {
        let mut hold = EncoderHold::new(7, Encoders::Drop);
        assert!(hold.held().is_err());
        let mut loads = 0;
        for prompt in ["a", "b", "a"] {
            let load = || {
                loads += 1;
                Ok(7)
            };
            let made = hold.encode(prompt, &Device::Cpu, load, |e| encoded(*e));
            made.expect("a prompt");
        }
        assert_eq!((loads, hold.runs()), (2, 2));
    }
}
