//! Compares every part of ours with a reference's recorded values: `scripts/golden DIR`.

use candle_core::DType;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use worker::golden::measure::Bar;
use worker::golden::{self, Line, Measure, Report};

/// Runs every part of ours on the files and cases of a folder of goldens.
///
/// Prints a line per case and part: largest difference, relative difference, share of values off. Exits
/// with 1 when one is beyond its bar, with 3 when only families that are not built yet were named.
#[derive(Parser)]
struct Arguments {
    /// Folder with meta.json, golden_*.safetensors and the model's files.
    folder: PathBuf,
    /// Cases to run, flux_base for example; all when none is named.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    case: Vec<String>,
    /// What encoders and transformer compute in.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
    /// Folder of the same weights and cases, computed by the reference in that half precision: our error
    /// is held to 1.25 times its own.
    #[arg(long, value_name = "DIR")]
    reference_half: Option<PathBuf>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
    Bf16,
    F16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> DType {
        match precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        }
    }
}

fn print(line: &Line, json: bool) {
    let (d, within) = (&line.distance, line.within());
    let theirs = match line.bar {
        Bar::Beside { theirs } => Some(theirs),
        _ => None,
    };
    if json {
        let object = serde_json::json!({
            "case": line.case, "part": line.part, "max_abs": d.max, "relative": d.relative,
            "off": d.off, "largest": d.largest, "within": within, "reference": theirs,
        });
        println!("{object}");
    } else {
        let verdict = if within { "ok" } else { "BEYOND ITS BAR" };
        let beside = theirs.map(|r| format!("the reference {r:9.3e}  "));
        println!(
            "{:<14} {:<22} max {:9.3e}  rel {:9.3e}  off {:7.4} %  {}{verdict}",
            line.case,
            line.part,
            d.max,
            d.relative,
            d.off * 100.0,
            beside.unwrap_or_default(),
        );
    }
}

fn conclude(report: &Report, json: bool) -> ExitCode {
    let beyond = report.lines.iter().filter(|line| !line.within()).count();
    for case in &report.not_built {
        eprintln!("{case}: not built yet");
    }
    if !json {
        println!("{} parts, {beyond} beyond their bar", report.lines.len());
    }
    match (beyond, report.lines.is_empty()) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut hear = |line: &Line| print(line, arguments.json);
    let measure = Measure {
        dtype: arguments.dtype.into(),
        half: arguments.reference_half.as_deref(),
    };
    match golden::run_beside(&arguments.folder, &arguments.case, measure, &mut hear) {
        Ok(report) => conclude(&report, arguments.json),
        Err(fault) => {
            eprintln!("golden: {fault}");
            ExitCode::FAILURE
        }
    }
}
