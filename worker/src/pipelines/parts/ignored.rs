//! Prefixes of tensor names that published files contain and no pipeline reads.

/// Prefixes in T5's files.
pub const T5: [&str; 2] = ["spiece_model", "encoder.embed_tokens.weight"];

/// Prefixes in CLIP-G's files.
pub const CLIP_G: [&str; 2] = ["text_model.embeddings.position_ids", "logit_scale"];

/// Prefixes in CLIP-L's files. The published projection is the identity. Those of substituted encoders may be
/// dense; they are not applied either.
pub const CLIP_L: [&str; 3] = [CLIP_G[0], CLIP_G[1], "text_projection.weight"];

/// Prefixes in the autoencoder's files: the encoder.
pub const AUTOENCODER: [&str; 1] = ["encoder."];
