//! Recipes: how a tensor is made from the stored ones by joining, scaling and swapping halves.

use super::entry::TensorEntry;
use super::file::WeightFile;
use super::kind::ElementKind;
use super::matrix::{Packed, SLAB_ELEMENTS};
use super::naming::{ModelPart, Renaming, TensorTarget};
use super::piece::Piece;
use super::slabs::slab_rows;
use super::stored::{RowSpan, Stored};
use crate::fault::WorkerFault;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The recipe of one tensor of the model.
pub(super) struct Recipe {
    /// Shape of the tensor, as the pipeline needs it.
    pub(super) shape: Vec<usize>,
    pieces: Vec<Arc<Piece>>, // joined along the first axis
    swapped: bool,           // the halves along the first axis are swapped
}

impl Recipe {
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().map(|side| *side as u64).product()
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        let lengths = self
            .pieces
            .iter()
            .map(|piece| piece.entry.range.len() as u64);
        lengths.sum()
    }

    /// File and name of the first piece, for messages.
    pub(super) fn origin(&self) -> (&str, &str) {
        let first = self.pieces.first();
        first.map_or(("", ""), |piece| (piece.file.name(), piece.name.as_str()))
    }

    /// Checks that the values can be read.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] with the piece and its encoding.
    pub(super) fn check(&self) -> Result<(), WorkerFault> {
        let mut pieces = self.pieces.iter();
        pieces.try_for_each(|piece| piece.entry.kind.check().map_err(|what| piece.fault(what)))
    }

    /// The piece, if there is only one and products can use it as stored.
    fn packed(&self) -> Option<&Piece> {
        let [piece] = self.pieces.as_slice() else {
            return None;
        };
        let whole = !self.swapped && piece.scale.is_none() && self.shape.len() == 2;
        (whole && piece.entry.kind.is_packed()).then_some(piece)
    }

    /// Tells how the tensor is held if it is a matrix.
    pub(super) fn holding(&self) -> Holding {
        Holding {
            stays_on_host: self.stays_on_host(),
            stays_in_blocks: self.packed().is_some(),
        }
    }

    /// Whether products on a CPU read the matrix from its files: it takes less memory there than in f32.
    fn stays_on_host(&self) -> bool {
        let narrow = |piece: &Arc<Piece>| piece.is_narrow_matrix();
        self.shape.len() == 2 && self.pieces.iter().all(narrow)
    }

    /// The matrix in its files, for products on a CPU; `None` if it has to be loaded.
    pub(super) fn stored(&self) -> Option<Stored> {
        let [rows, columns] = self.shape[..] else {
            return None;
        };
        self.stays_on_host()
            .then(|| Stored::new(self.row_spans(rows), (rows, columns)))
    }

    /// The rows of the pieces, in the order of the matrix's rows.
    fn row_spans(&self, rows: usize) -> Vec<RowSpan> {
        let half = rows / 2;
        let order = match self.swapped {
            true => [half..rows, 0..half],
            false => [0..half, half..rows],
        };
        let mut spans = Vec::new();
        for wanted in order {
            let mut first = 0;
            for piece in &self.pieces {
                let end = first + piece.rows();
                let (from, to) = (wanted.start.max(first), wanted.end.min(end));
                if from < to {
                    spans.push(RowSpan::new(Arc::clone(piece), from - first..to - first));
                }
                first = end;
            }
        }
        spans
    }

    /// Loads the blocks of the piece that [`Recipe::packed`] returns.
    pub(super) fn blocks(&self, device: &Device) -> Result<Option<Packed>, WorkerFault> {
        let (Some(piece), [rows, columns]) = (self.packed(), self.shape.as_slice()) else {
            return Ok(None);
        };
        let (kind, bytes) = (piece.entry.kind, piece.file.data(&piece.entry)?);
        let row = bytes.len() / rows.max(&1); // bytes of it: whole blocks
        let slab = slab_rows(SLAB_ELEMENTS, *columns);
        let slabs = bytes.chunks((slab * row).max(1)).map(|bytes| {
            let shape = [bytes.len() / row, *columns];
            kind.blocks(bytes, &shape, device)
        });
        let slabs = slabs.collect::<Result<_, _>>()?;
        piece.file.release(&piece.entry);
        Ok(Some(Packed::new(slabs, (*rows, *columns))))
    }

    /// Releases the memory of the pieces' bytes.
    pub(super) fn release(&self) {
        let pieces = self.pieces.iter();
        pieces.for_each(|piece| piece.file.release(&piece.entry));
    }

    /// Loads the tensor as a dense one.
    pub(super) fn tensor(&self, dtype: DType, device: &Device) -> Result<Tensor, WorkerFault> {
        let load = |piece: &Arc<Piece>| piece.tensor(dtype, device);
        let loaded: Vec<Tensor> = self.pieces.iter().map(load).collect::<Result<_, _>>()?;
        let [first, rest @ ..] = loaded.as_slice() else {
            return Err(WorkerFault::Compute("a tensor without pieces".to_owned()));
        };
        let joined = if rest.is_empty() {
            first.clone()
        } else {
            Tensor::cat(&loaded, 0)?
        };
        let joined = if self.swapped {
            let half = joined.dim(0)? / 2;
            let halves = [joined.narrow(0, half, half)?, joined.narrow(0, 0, half)?];
            Tensor::cat(&halves, 0)?
        } else {
            joined
        };
        Ok(joined.reshape(self.shape.as_slice())?)
    }
}

/// How a matrix is held where it does not become dense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holding {
    /// On a CPU it stays in its files.
    pub(super) stays_on_host: bool,
    /// On another device it stays in its blocks.
    pub(super) stays_in_blocks: bool,
}

/// Makes a recipe for every tensor of a file, with its own name.
pub(super) fn as_stored(file: &Arc<WeightFile>) -> BTreeMap<String, Recipe> {
    let recipe = |(name, entry): (&String, &TensorEntry)| {
        let piece = Piece {
            file: Arc::clone(file),
            name: name.clone(),
            entry: entry.clone(),
            scale: None,
        };
        let recipe = Recipe {
            shape: entry.shape.clone(),
            pieces: vec![Arc::new(piece)],
            swapped: false,
        };
        (name.clone(), recipe)
    };
    file.entries().iter().map(recipe).collect()
}

/// Makes the recipes of a part by original name. See [`super::Weights::of_part`].
pub(super) fn of_part(
    part: &'static ModelPart,
    files: &[Arc<WeightFile>],
    prefix: &str,
) -> Result<BTreeMap<String, Recipe>, WorkerFault> {
    let stored = files.iter().flat_map(|file| file.names());
    let names: Vec<&str> = stored
        .filter_map(|name| name.strip_prefix(prefix))
        .collect();
    let renaming = Renaming::new(part, &names);
    let mut placed: BTreeMap<String, Vec<(TensorTarget, Piece)>> = BTreeMap::new();
    for file in files {
        for (stored, entry) in file.entries() {
            let Some(name) = stored.strip_prefix(prefix) else {
                continue;
            };
            if is_companion(file, stored, name)? {
                continue;
            }
            let piece = Piece {
                file: Arc::clone(file),
                name: stored.clone(),
                entry: entry.clone(),
                scale: scale(file, stored)?,
            };
            let place = renaming.target(name);
            let known = placed.entry(place.name.clone()).or_default();
            known.push((place, piece));
        }
    }
    let built = placed.into_iter().map(|(name, pieces)| {
        let recipe = join(&name, pieces)?;
        Ok((name, recipe))
    });
    built.collect()
}

/// Makes a recipe from its pieces, which may be in any order.
fn join(name: &str, mut placed: Vec<(TensorTarget, Piece)>) -> Result<Recipe, WorkerFault> {
    placed.sort_by_key(|(place, _)| place.slot);
    let (first, piece) = &placed[0];
    let (of, swapped, square) = (first.of, first.swapped, first.square);
    if let Some(pair) = placed
        .windows(2)
        .find(|pair| pair[0].0.slot == pair[1].0.slot)
    {
        let what = format!("is in the files twice, also as {}", pair[0].1.name);
        return Err(pair[1].1.fault(what));
    }
    if placed.len() != of {
        let what = format!(
            "is a piece of {name} with {} others, but only {} of them are in the files",
            of - 1,
            placed.len() - 1
        );
        return Err(piece.fault(what));
    }
    let mut shape = piece.entry.shape.clone();
    for (_, other) in &placed[1..] {
        if other.entry.shape.is_empty() || other.entry.shape[1..] != piece.entry.shape[1..] {
            let what = format!(
                "has shape {:?}, but another piece has {:?}",
                other.entry.shape, piece.entry.shape
            );
            return Err(other.fault(what));
        }
        shape[0] += other.entry.shape[0];
    }
    if swapped && !shape.first().is_some_and(|rows| rows.is_multiple_of(2)) {
        return Err(piece.fault(format!("has shape {shape:?}, which cannot be halved")));
    }
    if square && shape.len() == 2 {
        shape.extend([1, 1]);
    }
    Ok(Recipe {
        shape,
        pieces: placed
            .into_iter()
            .map(|(_, piece)| Arc::new(piece))
            .collect(),
        swapped,
    })
}

/// Endings of the names of a weight's scale, and of tensors that do not affect its values.
const SCALES: [&str; 2] = [".scale_weight", ".weight_scale"];
const INPUTS: [&str; 2] = [".scale_input", ".input_scale"];
const FORMAT: &str = ".comfy_quant";
/// Name of a tensor that marks the whole file as scaled.
const MARKER: &str = "scaled_fp8";

/// Tells whether a tensor only describes another one.
fn is_companion(file: &WeightFile, stored: &str, name: &str) -> Result<bool, WorkerFault> {
    if name == MARKER {
        return Ok(true);
    }
    let ends = SCALES.iter().chain(&INPUTS).chain([&FORMAT]);
    let Some(layer) = ends.filter_map(|end| stored.strip_suffix(end)).next() else {
        return Ok(false);
    };
    if !file.has(&format!("{layer}.weight")) {
        return Ok(false); // it stays unread, and is refused by name
    }
    if stored.ends_with(FORMAT) {
        check_format(file, stored)?;
    }
    Ok(true)
}

/// Checks the format of a weight, stored as the text `{"format": "float8_e4m3fn"}`. Others are not supported.
fn check_format(file: &WeightFile, stored: &str) -> Result<(), WorkerFault> {
    let entry = &file.entries()[stored];
    let format = String::from_utf8_lossy(file.data(entry)?);
    if format.contains("\"float8_e4m3fn\"") {
        return Ok(());
    }
    let format: String = format.chars().take(200).collect();
    let what = format!("is {format}; only float8_e4m3fn is supported");
    Err(WorkerFault::configuration(file.name(), stored, what))
}

/// The scale of a weight: one number, or one for each row.
fn scale(file: &WeightFile, stored: &str) -> Result<Option<Tensor>, WorkerFault> {
    let Some(layer) = stored.strip_suffix(".weight") else {
        return Ok(None);
    };
    let names = SCALES.iter().map(|end| format!("{layer}{end}"));
    let Some(name) = names.into_iter().find(|name| file.has(name)) else {
        return Ok(None);
    };
    let (entry, weight) = (&file.entries()[&name], &file.entries()[stored]);
    let rows = weight.shape.first().copied().unwrap_or(1);
    let count: usize = entry.shape.iter().product();
    let refuse = |what: String| WorkerFault::configuration(file.name(), &name, what);
    let plain = matches!(entry.kind, ElementKind::Plain(_));
    if !plain || (count != 1 && count != rows) {
        let what = format!(
            "is {} {:?}, which is not a scale of {rows} rows",
            entry.kind, entry.shape
        );
        return Err(refuse(what));
    }
    let values = entry
        .kind
        .tensor(file.data(entry)?, &entry.shape, &Device::Cpu)?;
    let values = values.map_err(refuse)?.to_dtype(DType::F32)?;
    let mut shape = vec![1; weight.shape.len().max(1)];
    shape[0] = count;
    Ok(Some(values.reshape(shape)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::matrix::tests::values;
    use safetensors::tensor::{Dtype as Stored, TensorView};
    use std::path::{Path, PathBuf};

    const COLUMNS: usize = 512;
    /// Rows of the two pieces; together more than a slab.
    const ROWS: [usize; 2] = [1500, 700];

    /// A file with two matrices of bytes of `kind`, of which an element takes `width`.
    fn written(folder: &Path, kind: Stored, width: usize, byte: fn(f32) -> Vec<u8>) -> PathBuf {
        let all = [("a", ROWS[0]), ("b", ROWS[1])];
        let data = all.map(|(name, rows)| {
            let bytes: Vec<u8> = values(rows * COLUMNS).into_iter().flat_map(byte).collect();
            assert_eq!(bytes.len(), rows * COLUMNS * width);
            (name, rows, bytes)
        });
        let views = data.each_ref().map(|(name, rows, bytes)| {
            let view = TensorView::new(kind, vec![*rows, COLUMNS], bytes);
            (*name, view.expect("values of this shape"))
        });
        let path = folder.join(format!("{kind:?}.safetensors"));
        let bytes = safetensors::serialize(views, None).expect("two tensors");
        std::fs::write(&path, bytes).expect("a writable temporary folder");
        path
    }

    fn joined(path: &Path, swapped: bool, scaled: bool) -> Recipe {
        let file = Arc::new(WeightFile::open(path).expect("a good file"));
        let piece = |name: &str, rows: usize| {
            let scale = values(rows).into_iter().map(|value| value + 2.0);
            let scale = Tensor::from_vec(scale.collect::<Vec<f32>>(), (rows, 1), &Device::Cpu);
            Arc::new(Piece {
                file: Arc::clone(&file),
                name: name.to_owned(),
                entry: file.entries()[name].clone(),
                scale: scaled.then_some(scale.expect("a scale of each row")),
            })
        };
        Recipe {
            shape: vec![ROWS[0] + ROWS[1], COLUMNS],
            pieces: vec![piece("a", ROWS[0]), piece("b", ROWS[1])],
            swapped,
        }
    }

    fn input() -> Tensor {
        let x = Tensor::from_vec(values(3 * COLUMNS), (3, COLUMNS), &Device::Cpu);
        x.expect("values of this shape")
    }

    /// The largest difference between the products with the stored matrix and with the dense one.
    fn difference(recipe: &Recipe) -> f32 {
        let stored = recipe.stored().expect("it stays in its file");
        let ours = stored.product(&input()).expect("a product");
        let dense = recipe.tensor(DType::F32, &Device::Cpu).expect("values");
        let exact = dense.t().and_then(|dense| input().matmul(&dense));
        let apart = (ours - exact.expect("a product")).and_then(|apart| apart.abs()?.max_all());
        let apart = apart.and_then(|apart| apart.to_scalar::<f32>());
        apart.expect("a difference")
    }

    #[test]
    fn the_product_with_a_stored_matrix_is_that_with_the_dense_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let upper = |value: f32| value.to_le_bytes()[2..].to_vec();
        let files = [
            written(folder.path(), Stored::BF16, 2, upper),
            written(folder.path(), Stored::F16, 2, |value| {
                // Exponents 2^-15 to 1: a number in -2..2 of this many bits.
                let bits = ((value.abs() * 15360.0) as u16) | (u16::from(value < 0.0) << 15);
                bits.to_le_bytes().to_vec()
            }),
            written(folder.path(), Stored::F8_E4M3, 1, |value| {
                vec![((value.abs() * 100.0) as u8) | (u8::from(value < 0.0) << 7)]
            }),
        ];
        for path in &files {
            for (swapped, scaled) in [(false, false), (true, false), (true, true)] {
                let apart = difference(&joined(path, swapped, scaled));
                // Sums of 512 numbers up to 3, in another order.
                assert!(apart <= 1e-3, "{}: {apart}", path.display());
            }
            let (straight, swapped) = (joined(path, false, false), joined(path, true, false));
            let product = |recipe: &Recipe| {
                let stored = recipe.stored().expect("it stays in its file");
                let product = stored.product(&input()).expect("a product");
                product.to_vec2::<f32>().expect("f32")[0].clone()
            };
            let mut halves = product(&straight);
            halves.rotate_left((ROWS[0] + ROWS[1]) / 2);
            assert_eq!(product(&swapped), halves, "{}", path.display());
        }
    }

    #[test]
    fn a_file_in_f32_is_loaded_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = written(folder.path(), Stored::F32, 4, |value| {
            value.to_le_bytes().to_vec()
        });
        assert!(joined(&path, false, false).stored().is_none());
    }

    #[test]
    fn a_file_that_was_written_to_while_its_matrix_was_in_use_is_corrupt() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let upper = |value: f32| value.to_le_bytes()[2..].to_vec();
        let path = written(folder.path(), Stored::BF16, 2, upper);
        let stored = joined(&path, false, false)
            .stored()
            .expect("it stays in its file");
        stored.product(&input()).expect("a good file");
        let file = std::fs::File::options().write(true).open(&path);
        let touched = file.and_then(|file| file.set_modified(std::time::SystemTime::UNIX_EPOCH));
        touched.expect("our own file");
        let product = stored.product(&input());
        assert!(matches!(product, Err(WorkerFault::WeightsCorrupt { .. })));
    }
}
