//! A lossy encoder for WebP: one VP8 key frame, as RFC 6386 defines it.
//!
//! It predicts each macroblock as a whole or block by block, whichever costs less, and fits the probabilities of the
//! coefficients to the picture. It has no segments and no search of coefficients; at the same error its files
//! are about as large as those of libwebp's default method. Everything is integers: the same pixels give the same bytes on every machine.
//!
//! - `planes` holds the picture as YCbCr; `prediction`, `transform` and `quantizer` are the parts of the codec
//! - `macroblock` chooses; `modes` and `tokens` write; `bits` is the entropy coder, `tables` its constants

mod bits;
mod macroblock;
mod modes;
mod planes;
mod prediction;
mod quantizer;
mod tables;
mod tokens;
mod transform;

use ipc_protocol::units::PictureSize;

use super::format::Quality;
use bits::BitWriter;
use macroblock::LumaContext;
use modes::LumaModes;
use planes::{Border, Planes};
use prediction::{BlockMode, WholeMode};
use quantizer::Quantizer;
use tokens::{MacroblockLevels, Neighbours, TokenCounts, TokenWriter};

/// Most bytes of the first partition, which its length has 19 bits for.
const MODES_BYTES_MAX: usize = (1 << 19) - 1;

/// A macroblock whose modes and coefficients are chosen.
struct CodedMacroblock {
    luma: LumaModes,
    chroma: WholeMode,
    residual: MacroblockLevels,
}

/// A frame whose macroblocks are chosen.
struct CodedFrame {
    columns: usize,
    macroblocks: Vec<CodedMacroblock>,
    counts: TokenCounts,
}

/// Encodes pixels, rows from the top, three bytes a pixel; `None` if the prediction modes do not fit the format.
pub(super) fn encode(size: PictureSize, rgb8: &[u8], quality: Quality) -> Option<Vec<u8>> {
    let quantizer = Quantizer::new(quality);
    let frame = code(&Planes::of(size, rgb8), &quantizer);
    let mut header = BitWriter::new();
    write_settings(&mut header, &quantizer);
    let learned = frame.counts.write_probabilities(&mut header);
    let mut tokens = TokenWriter {
        writer: BitWriter::new(),
        learned,
    };
    write_macroblocks(&frame, &mut header, &mut tokens);
    let (modes, tokens) = (header.finish(), tokens.writer.finish());
    if modes.len() > MODES_BYTES_MAX {
        return None;
    }
    // Of a key frame (0) that is shown (1 << 4).
    let tag = (modes.len() as u32) << 5 | 1 << 4;
    let mut bytes = tag.to_le_bytes()[..3].to_vec();
    bytes.extend_from_slice(&[0x9d, 0x01, 0x2a]);
    for side in [size.width, size.height] {
        bytes.extend_from_slice(&(side as u16).to_le_bytes());
    }
    Some([bytes, modes, tokens].concat())
}

/// The decoded and chosen surroundings of the next macroblock.
struct CodedNeighbours {
    luma: Border<16>,
    chroma: [Border<8>; 2],
    neighbours: Sides<Neighbours>,
    modes: Sides<[BlockMode; 4]>,
}

/// A value for each column above, and one for the left.
struct Sides<T> {
    above: Vec<T>,
    left: T,
    outside: T,
}

impl<T: Copy> Sides<T> {
    fn new(columns: usize, outside: T) -> Self {
        Self {
            above: vec![outside; columns],
            left: outside,
            outside,
        }
    }

    fn next_row(&mut self) {
        self.left = self.outside;
    }

    fn of(&self, column: usize) -> (T, T) {
        (self.above[column], self.left)
    }
}

impl CodedNeighbours {
    fn new(columns: usize) -> Self {
        Self {
            luma: Border::new(columns),
            chroma: [Border::new(columns), Border::new(columns)],
            neighbours: Sides::new(columns, Neighbours::default()),
            modes: Sides::new(columns, [BlockMode::Dc; 4]),
        }
    }

    fn next_row(&mut self) {
        self.luma.next_row();
        self.chroma.iter_mut().for_each(Border::next_row);
        self.neighbours.next_row();
        self.modes.next_row();
    }
}

/// Chooses all macroblocks, in the order of the file.
fn code(planes: &Planes, quantizer: &Quantizer) -> CodedFrame {
    let (columns, rows) = planes.macroblocks;
    let mut around = CodedNeighbours::new(columns);
    let mut frame = CodedFrame {
        columns,
        macroblocks: Vec::with_capacity(columns * rows),
        counts: TokenCounts::new(),
    };
    for row in 0..rows {
        if row > 0 {
            around.next_row();
        }
        for column in 0..columns {
            let coded = code_macroblock(planes, (column, row), &mut around, quantizer);
            let (above, left) = (
                &mut around.neighbours.above[column],
                &mut around.neighbours.left,
            );
            put_residual(&coded.residual, above, left, &mut frame.counts);
            frame.macroblocks.push(coded);
        }
    }
    frame
}

fn code_macroblock(
    planes: &Planes,
    (column, row): (usize, usize),
    around: &mut CodedNeighbours,
    quantizer: &Quantizer,
) -> CodedMacroblock {
    let context = LumaContext {
        edges: &around.luma.edges(column),
        modes: around.modes.of(column),
        coefficients: around.neighbours.of(column),
    };
    let luma = macroblock::luma(&planes.luma.macroblock(column, row), context, quantizer);
    around.luma.pass(column, &luma.decoded);
    around.modes.above[column] = luma.modes.lowest();
    around.modes.left = luma.modes.last();
    let sources = [0, 1].map(|plane| planes.chroma[plane].macroblock(column, row));
    let edges = [0, 1].map(|plane| around.chroma[plane].edges(column));
    let (mode, chroma) = macroblock::chroma(&sources, &edges, quantizer);
    for (border, coded) in around.chroma.iter_mut().zip(&chroma) {
        border.pass(column, &coded.decoded);
    }
    CodedMacroblock {
        luma: luma.modes,
        chroma: mode,
        residual: MacroblockLevels {
            second: luma.second,
            luma: luma.blocks,
            chroma: chroma.map(|coded| coded.blocks),
        },
    }
}

/// Puts the coefficients of a macroblock, unless it has none and is skipped.
fn put_residual(
    residual: &MacroblockLevels,
    above: &mut Neighbours,
    left: &mut Neighbours,
    sink: &mut impl tokens::TokenSink,
) {
    if residual.is_empty() {
        let has_second = residual.second.is_some();
        above.pass_empty(has_second);
        left.pass_empty(has_second);
    } else {
        tokens::macroblock(residual, above, left, sink);
    }
}

/// Writes the frame header up to the quantizer; RFC 6386 section 9.
fn write_settings(writer: &mut BitWriter, quantizer: &Quantizer) {
    writer.literal(0, 2); // the only colour space; pixels have to be clamped
    writer.literal(0, 1); // no segments
    writer.literal(0, 1); // the normal loop filter
    writer.literal(quantizer.filter_level(), 6);
    writer.literal(0, 3 + 1); // its sharpness; no adjustments of it
    writer.literal(0, 2); // one partition of coefficients
    writer.literal(quantizer.index.into(), 7);
    writer.literal(0, 5); // no differences between the kinds of coefficients
    writer.literal(0, 1); // probabilities are of this frame alone
}

/// Writes the modes of all macroblocks to one partition, and their coefficients to the other.
fn write_macroblocks(frame: &CodedFrame, header: &mut BitWriter, tokens: &mut TokenWriter) {
    let all = frame.macroblocks.len();
    let is_empty = |coded: &&CodedMacroblock| coded.residual.is_empty();
    let empty = frame.macroblocks.iter().filter(is_empty).count();
    let chance = ((all - empty) * 255 / all.max(1)).max(1) as u8;
    header.literal(1, 1); // macroblocks may be skipped
    header.literal(chance.into(), 8);
    let mut modes = Sides::new(frame.columns, [BlockMode::Dc; 4]);
    let mut neighbours = Sides::new(frame.columns, Neighbours::default());
    for (nth, coded) in frame.macroblocks.iter().enumerate() {
        let column = nth % frame.columns;
        if column == 0 {
            modes.next_row();
            neighbours.next_row();
        }
        header.put(coded.residual.is_empty(), chance);
        modes::write(coded.luma, coded.chroma, modes.of(column), header);
        modes.above[column] = coded.luma.lowest();
        modes.left = coded.luma.last();
        let (above, left) = (&mut neighbours.above[column], &mut neighbours.left);
        put_residual(&coded.residual, above, left, tokens);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image_webp::WebPDecoder;

    use super::*;

    const SIZE: PictureSize = PictureSize {
        width: 200,
        height: 120,
    };

    /// Gray waves in a direction that changes from block to block, with noise; to the right of them columns, rows and
    /// planes that reach over several macroblocks.
    fn pixels() -> Vec<u8> {
        let mut random = 1u32;
        let mut pixel = |x: i32, y: i32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let angle = (x / 16 * 7 + y / 16 * 11) as f32 / 8.0;
            let along = (x as f32 * angle.cos() + y as f32 * angle.sin()) / 3.0;
            let wave = 128.0 + 80.0 * along.sin() + (random >> 29) as f32;
            let gray = match (x, y) {
                (..96, _) => wave as i32,
                (_, ..40) => 60 + x * x % 97,
                (_, ..80) => 60 + y * y % 97,
                (_, _) => x / 2 + y,
            };
            [gray as u8; 3]
        };
        let places =
            (0..SIZE.height as i32).flat_map(|y| (0..SIZE.width as i32).map(move |x| (x, y)));
        places.flat_map(|(x, y)| pixel(x, y)).collect()
    }

    /// The decoder of another crate. A file begins with 12 bytes, a chunk with 8.
    fn decoded(frame: &[u8]) -> Vec<u8> {
        let length = frame.len() as u32;
        let mut file = b"RIFF".to_vec();
        file.extend_from_slice(&(length + 12).to_le_bytes());
        file.extend_from_slice(b"WEBPVP8 ");
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(frame);
        file.resize(file.len().next_multiple_of(2), 0);
        let mut decoder = WebPDecoder::new(Cursor::new(file)).expect("a frame");
        let mut rgb8 = vec![0; decoder.output_buffer_size().expect("it is small")];
        decoder.read_image(&mut rgb8).expect("a frame");
        rgb8
    }

    fn quality(quality: u8) -> Quality {
        Quality::new(quality).expect("from 1 to 100")
    }

    #[test]
    fn every_mode_is_used_and_another_decoder_computes_the_same_pixels() {
        let planes = Planes::of(SIZE, &pixels());
        let mut block_modes = Vec::new();
        let mut whole_modes = Vec::new();
        for quality in [quality(5), quality(99)] {
            let frame = code(&planes, &Quantizer::new(quality));
            for coded in frame.macroblocks {
                match coded.luma {
                    LumaModes::Whole(mode) => whole_modes.push(mode as usize),
                    LumaModes::Blocks(modes) => block_modes.extend(modes.map(|mode| mode as usize)),
                }
            }
        }
        for mode in 0..10 {
            assert!(block_modes.contains(&mode), "block mode {mode}");
        }
        for mode in 0..4 {
            assert!(whole_modes.contains(&mode), "mode {mode}");
        }
        // The step of this quality is 5 and its loop filter is off. A prediction that differs in one block would spread.
        let frame = encode(SIZE, &pixels(), quality(99)).expect("a small picture");
        let errors = decoded(&frame).into_iter().zip(pixels());
        let largest = errors.map(|(a, b)| a.abs_diff(b)).max();
        assert!(largest <= Some(8), "{largest:?}");
    }

    #[test]
    fn small_and_uneven_sizes_can_be_decoded() {
        for (width, height) in [(1, 1), (3, 50), (16, 16), (17, 15), (33, 2)] {
            let size = PictureSize { width, height };
            let pixels = &pixels()[..size.rgb8_bytes() as usize];
            for quality in [quality(1), quality(50), quality(99)] {
                let frame = encode(size, pixels, quality).expect("a small picture");
                assert_eq!(decoded(&frame).len(), pixels.len());
            }
        }
    }

    #[test]
    fn a_flat_picture_takes_next_to_nothing() {
        let flat = [90; 200 * 120 * 3];
        let frame = encode(SIZE, &flat, quality(75)).expect("a small picture");
        assert!(frame.len() < 200, "{} bytes", frame.len());
        let errors = decoded(&frame).into_iter().map(|value| value.abs_diff(90));
        assert!(errors.max() <= Some(2));
    }
}
