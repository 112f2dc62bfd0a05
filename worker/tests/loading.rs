//! Loading holds the memory of the tensors, and not that of the file. The test has a program of its own, because
//! the peak is that of a whole process.

use candle_core::{DType, Device};
use std::io::{BufWriter, Write};
use std::path::Path;
use worker::footprint;
use worker::weights::{Meter, Section, Weights};

const TENSORS: usize = 12;
const ROWS: usize = 2048;
const COLUMNS: usize = 2048;
const BYTES: usize = ROWS * COLUMNS * 4;

fn write(path: &Path) {
    let describe = |i: usize| {
        let (from, to) = (i * BYTES, (i + 1) * BYTES);
        format!(
            "\"t{i:02}\":{{\"dtype\":\"F32\",\"shape\":[{ROWS},{COLUMNS}],\"data_offsets\":[{from},{to}]}}"
        )
    };
    let header: Vec<String> = (0..TENSORS).map(describe).collect();
    let header = format!("{{{}}}", header.join(","));
    // Writers align the data, so that a tensor is not copied.
    let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
    let mut file = BufWriter::new(std::fs::File::create(path).expect("a writable folder"));
    let length = (header.len() as u64).to_le_bytes();
    file.write_all(&length)
        .and_then(|()| file.write_all(header.as_bytes()))
        .expect("room");
    for i in 0..TENSORS * ROWS {
        file.write_all(&[i as u8; COLUMNS * 4]).expect("room");
    }
    file.flush().expect("room");
}

#[test]
fn pages_of_a_file_are_released_after_its_tensors_are_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("large.safetensors");
    write(&path);
    let before = footprint::measure().peak_bytes;
    let weights = Weights::open(&path).expect("a good file");
    let mut tell = |_| {};
    let meter = Meter::new(&[&weights], &mut tell);
    let section = Section::new(&weights, &meter, DType::F32, &Device::Cpu);
    let load = |i| {
        section
            .tensor(&format!("t{i:02}"), &[ROWS, COLUMNS])
            .expect("a tensor")
    };
    let held: Vec<_> = (0..TENSORS).map(load).collect();
    let grown = footprint::measure().peak_bytes - before;
    let (all, one) = ((held.len() * BYTES) as u64, BYTES as u64);
    println!("peak grew by {} of {} MiB", grown >> 20, all >> 20);
    assert!(grown <= all + 2 * one, "{grown} for {all}");
}
