//! A few shapes of each part, by which a file of this model is told from one of another model.
//!
//! The widths and the last block are enough: another size or depth of the same architecture fails one of
//! them. Loading checks every tensor.

use crate::pipelines::folder::search::Shapes;
use crate::pipelines::parts::sizes::{ClipSizes, DecoderSizes, T5Sizes};

/// Those of an autoencoder's decoder.
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

/// Those of a T5 encoder; other languages' encoders differ in the rows of the embedding alone.
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

/// Those of a CLIP text encoder.
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
