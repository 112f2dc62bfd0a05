//! SHA-256 digests of weight files, and their verification.

use super::open_regular;
use crate::fault::WorkerFault;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Component, Path};

/// Name of the digest list in a model's folder: lines of `HEX  PATH`, as sha256sum writes them.
pub const SUMS: &str = "SHA256SUMS";

/// Number of bytes read at once.
const CHUNK: usize = 1 << 20;

/// Computes the SHA-256 of bytes, in hexadecimal.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// Computes the digest of a model: the digest of its files' digests, sorted, one per line. It does not depend
/// on paths and names of the files, and can be computed from a list of digests.
pub fn of_model(mut files: Vec<String>) -> String {
    files.sort();
    let lines: String = files.iter().map(|digest| format!("{digest}\n")).collect();
    of_bytes(lines.as_bytes())
}

/// Computes the SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`]; [`WorkerFault::WeightsCorrupt`] if it cannot be read.
pub fn of_file(path: &Path) -> Result<String, WorkerFault> {
    let unread = |error| WorkerFault::reading(path, &error);
    let mut file = open_regular(path)?;
    let (mut sum, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let count = file.read(&mut chunk).map_err(unread)?;
        if count == 0 {
            return Ok(hex(sum));
        }
        sum.update(&chunk[..count]);
    }
}

fn hex(sum: Sha256) -> String {
    let bytes = sum.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares the files of a folder with its [`SUMS`]. Returns the names of the compared files.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`] if the list or one of its files is missing; [`WorkerFault::WeightsCorrupt`] with the
/// first file whose digest differs.
pub fn verify(folder: &Path) -> Result<Vec<String>, WorkerFault> {
    let list = folder.join(SUMS);
    let mut text = String::new();
    let read = open_regular(&list)?.read_to_string(&mut text);
    read.map_err(|error| WorkerFault::reading(&list, &error))?;
    let damaged = |line: &str| WorkerFault::WeightsCorrupt {
        file: list.display().to_string(),
        what: format!("{line:?} is not a digest and a name"),
    };
    let mut compared = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let pair = line.split_once(' ').ok_or_else(|| damaged(line))?;
        let (digest, name) = (pair.0, pair.1.trim_start_matches([' ', '*']));
        let inside = |part| matches!(part, Component::Normal(_));
        if digest.len() != 64 || !Path::new(name).components().all(inside) {
            return Err(damaged(line));
        }
        let path = folder.join(name);
        expect(&path.display().to_string(), &of_file(&path)?, digest)?;
        compared.push(name.to_owned());
    }
    Ok(compared)
}

/// Compares a digest with the expected one.
///
/// # Errors
/// [`WorkerFault::WeightsCorrupt`] with `file` if they differ.
pub fn expect(file: &str, found: &str, promised: &str) -> Result<(), WorkerFault> {
    if found.eq_ignore_ascii_case(promised) {
        return Ok(());
    }
    Err(WorkerFault::WeightsCorrupt {
        file: file.to_owned(),
        what: format!("has SHA-256 {found}, not {promised}: its content has changed or is damaged"),
    })
}
