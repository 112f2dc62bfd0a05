//! A few tensor shapes of each part, which tell a file of this model from one of another model.
//!
//! The widths and the last block are enough: a model of another size or depth differs in one of them. Loading
//! checks every tensor.

use crate::pipelines::folder::search::Shapes;
use crate::pipelines::parts::sizes::{ClipSizes, DecoderSizes, T5Sizes};

/// Shapes of an autoencoder's decoder.
pub fn decoder(sizes: &DecoderSizes) -> Shapes {
    let width = sizes.ch * sizes.ch_mult.last().copied().unwrap_or(1);
    vec![
        (
            "decoder.conv_in.weight".to_owned(),
            vec![width, sizes.z_channels, 3, 3],
        ),
        ("decoder.conv_out.bias".to_owned(), vec![3]),
    ]
}

/// Shapes of a T5 encoder. Encoders for other languages differ only in the rows of the embedding.
pub fn t5(sizes: &T5Sizes) -> Shapes {
    let last = sizes.num_layers.saturating_sub(1);
    let mut all = vec![(
        format!("encoder.block.{last}.layer.1.DenseReluDense.wo.weight"),
        vec![sizes.d_model, sizes.d_ff],
    )];
    if sizes.vocab_size > 0 {
        all.push((
            "shared.weight".to_owned(),
            vec![sizes.vocab_size, sizes.d_model],
        ));
    }
    all
}

/// Shapes of a CLIP text encoder.
pub fn clip(sizes: &ClipSizes) -> Shapes {
    let last = sizes.num_hidden_layers.saturating_sub(1);
    vec![
        (
            "text_model.embeddings.position_embedding.weight".to_owned(),
            vec![sizes.max_position_embeddings, sizes.hidden_size],
        ),
        (
            format!("text_model.encoder.layers.{last}.mlp.fc2.weight"),
            vec![sizes.hidden_size, sizes.intermediate_size],
        ),
    ]
}
