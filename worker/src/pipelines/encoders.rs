//! Keeps the text encoders as configured, and caches encoded prompts.

use crate::fault::WorkerFault;
use candle_core::{Device, Tensor};
pub use ipc_protocol::arithmetic::Encoders;
use std::collections::VecDeque;

/// The embeddings of a prompt.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The states of all tokens, (1, s, width).
    pub text: Tensor,
    /// The state of the whole prompt, (1, width).
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

/// Size of the cache of encoded prompts in bytes: a few prompts of the published models in f32.
pub const REMEMBERED_BYTES: usize = 16 << 20;

/// A cache of encoded prompts with a limit in bytes; the last used one is at the back.
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

/// The text encoders of one model, in memory or dropped.
#[derive(Debug)]
pub struct EncoderHold<E> {
    held: Option<E>,
    place: Encoders,
    remembered: Remembered,
    runs: u64,
}

impl<E> EncoderHold<E> {
    /// Takes the encoders after their first load, which shows that they can be loaded, and frees them if they
    /// are not kept.
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

    /// The configured placement.
    pub fn residence(&self) -> Encoders {
        self.place
    }

    /// The encoders, if they are in memory.
    ///
    /// # Errors
    /// [`WorkerFault::Compute`] if they are not.
    pub fn held(&self) -> Result<&E, WorkerFault> {
        let absent = || WorkerFault::Compute("the encoders are not in memory".to_owned());
        self.held.as_ref().ok_or_else(absent)
    }

    /// The encoders in memory, for a test that damages them.
    #[cfg(test)]
    pub(crate) fn held_mut(&mut self) -> Option<&mut E> {
        self.held.as_mut()
    }

    /// Number of prompts that were encoded and not found in the cache.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Returns the encoded prompt on `device`, from the cache or from `run`, which gets the encoders. They are
    /// loaded with `load` if they are not in memory.
    ///
    /// # Errors
    /// Faults of `load` and `run`.
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
    fn a_repeated_prompt_is_not_encoded_again_while_it_is_cached() {
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
    fn a_prompt_over_the_limit_is_encoded_each_time_and_evicts_nothing() {
        let mut hold = EncoderHold::new(7, Encoders::Keep);
        hold.remembered.limit = 7 * 4 + 4 + 1;
        for (prompt, runs) in [("a", 1), ("longer", 2), ("longer", 3), ("a", 3)] {
            ask(&mut hold, prompt);
            assert_eq!(hold.runs(), runs, "{prompt}");
        }
    }

    #[test]
    fn dropped_encoders_are_loaded_for_each_new_prompt() {
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
