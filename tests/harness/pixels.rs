//! Pictures as bytes and as colours.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The ten colours the embedded model was trained on.
pub const COLOURS: [(&str, [u8; 3]); 10] = [
    ("red", [220, 38, 48]),
    ("green", [38, 166, 76]),
    ("blue", [44, 86, 220]),
    ("yellow", [246, 208, 44]),
    ("purple", [142, 62, 186]),
    ("orange", [246, 140, 32]),
    ("pink", [246, 140, 182]),
    ("black", [24, 24, 28]),
    ("white", [250, 250, 250]),
    ("gray", [140, 144, 150]),
];

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A decoded PNG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Rows from the top, three bytes a pixel.
    pub rgb8: Vec<u8>,
}

impl Pixels {
    /// Reads a PNG of 8-bit RGB.
    pub fn read(file: &Path) -> Self {
        Self::decode(&fs::read(file).expect("the picture is there"))
    }

    /// Decodes a PNG of 8-bit RGB.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(Cursor::new(bytes))
            .read_info()
            .expect("a PNG");
        let mut rgb8 = vec![0; reader.output_buffer_size().expect("it fits memory")];
        let info = reader.next_frame(&mut rgb8).expect("a whole PNG");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        Self {
            width: info.width as usize,
            height: info.height as usize,
            rgb8,
        }
    }

    /// The share of pixels with columns in `columns` (0 to 1) whose nearest colour is `name`.
    pub fn share(&self, name: &str, columns: std::ops::Range<f64>) -> f64 {
        let inside = |x: usize| columns.contains(&(x as f64 / self.width as f64));
        let mut pixels = 0u32;
        let mut of_it = 0u32;
        for (index, pixel) in self.rgb8.as_chunks::<3>().0.iter().enumerate() {
            if inside(index % self.width) {
                pixels += 1;
                of_it += u32::from(nearest(*pixel) == name);
            }
        }
        f64::from(of_it) / f64::from(pixels)
    }
}

fn nearest(pixel: [u8; 3]) -> &'static str {
    let distance = |colour: [u8; 3]| -> u32 {
        (0..3)
            .map(|i| u32::from(pixel[i].abs_diff(colour[i])).pow(2))
            .sum()
    };
    let found = COLOURS.iter().min_by_key(|(_, colour)| distance(*colour));
    found.expect("there are ten").0
}
