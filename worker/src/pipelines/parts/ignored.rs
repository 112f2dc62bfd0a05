//! Starts of the names of tensors that published files hold and no pipeline reads.

/// In T5's files.
pub const T5: [&str; 2] = ["spiece_model", "encoder.embed_tokens.weight"];

/// In CLIP-G's files.
pub const CLIP_G: [&str; 2] = ["text_model.embeddings.position_ids", "logit_scale"];

/// In CLIP-L's files. The published projection is the identity; substituted ones may be dense and are not
/// applied either.
pub const CLIP_L: [&str; 3] = [CLIP_G[0], CLIP_G[1], "text_projection.weight"];

/// In the autoencoder's files: the encoding half.
pub const AUTOENCODER: [&str; 1] = ["encoder."];
