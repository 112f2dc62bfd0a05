//! Inputs that once did harm, or that a fuzzer found to be of interest: the files of `corpus/`.

use std::fs;
use std::path::Path;

use crate::ByteDecoder;

/// The kept inputs of a decoder.
pub fn inputs(decoder: &ByteDecoder) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(decoder.name);
    // A decoder without a folder has no kept inputs.
    let files = fs::read_dir(folder).into_iter().flatten();
    files
        .map(|file| fs::read(file.expect("a listed file").path()).expect("a readable file"))
        .collect()
}
