//! Queries, keys and values of a transformer's streams, and their joint attention.

use crate::fault::WorkerFault;
use crate::pipelines::parts::attention::attention;
use crate::pipelines::parts::layers::{join_heads, split_heads};
use crate::pipelines::parts::norms::RmsNorm;
use candle_core::{D, Tensor};

/// The norms of queries and keys, each over one head.
pub struct QueryKeyNorm {
    /// Norm of the queries.
    pub query: RmsNorm,
    /// Norm of the keys.
    pub key: RmsNorm,
}

/// Queries, keys and values, each (b, heads, s, d).
pub struct Heads {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

impl Heads {
    /// Splits (b, s, 3 * width) in the order query, key, value, and normalises queries and keys.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn split(fused: &Tensor, norm: &QueryKeyNorm, heads: usize) -> Result<Heads, WorkerFault> {
        let width = fused.dim(D::Minus1)? / 3;
        let part = |i| split_heads(&fused.narrow(D::Minus1, i * width, width)?, heads);
        let q = norm.query.forward(&part(0)?)?;
        Ok(Heads {
            q,
            k: norm.key.forward(&part(1)?)?,
            v: part(2)?,
        })
    }

    /// Joins two streams: the tokens of the first, then those of the second.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn joined(first: &Heads, second: &Heads) -> Result<Heads, WorkerFault> {
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 2);
        let (q, k) = (cat(&first.q, &second.q)?, cat(&first.k, &second.k)?);
        Ok(Heads {
            q,
            k,
            v: cat(&first.v, &second.v)?,
        })
    }

    /// Computes attention between all tokens: (b, s, width).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn attend(&self) -> Result<Tensor, WorkerFault> {
        let scale = 1.0 / (self.q.dim(3)? as f64).sqrt();
        join_heads(&attention((&self.q, &self.k, &self.v), scale, None)?)
    }
}
