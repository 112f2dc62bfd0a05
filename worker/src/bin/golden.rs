//! Compares every part of our models with the recorded values of a reference: `scripts/golden DIR`.

use candle_core::DType;
use clap::{Parser, ValueEnum};
use ipc_protocol::ids::{Device, DeviceConstraint};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use worker::device;
use worker::fault::WorkerFault;
use worker::golden::measure::Tolerance;
use worker::golden::tokens::{self, TokenReader};
use worker::golden::{self, GoldenReport, Measure, PartLine};
use worker::pipelines::families;
use worker::weights::Inventory;

/// Run every part of a model on the files and cases of a folder of goldens.
///
/// Prints a line per case and part: largest difference, relative difference, share of different values. Exits
/// with 1 if a part exceeds its tolerance, and with 3 if all chosen cases are of families that are not built yet.
#[derive(Parser)]
struct GoldenArguments {
    /// Folder with meta.json, golden_*.safetensors and the model's files. With --tokens: a model's folder, or none
    /// for the published tokenizers.
    #[arg(required_unless_present_any = ["tokens", "shapes"])]
    folder: Option<PathBuf>,
    /// Print the token ids of the prompts in FILE, without a comparison.
    ///
    /// FILE contains JSON strings, one per line, or a JSON array of strings. For each prompt, a line {"prompt",
    /// "t5", "clip_l", "clip_g"} is printed, with the ids as the encoders get them, including begin, end and
    /// padding; a FLUX folder has no clip_g. In a folder without a transformer, only the tokenizers are read.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["case", "reference_half"])]
    tokens: Option<PathBuf>,
    /// Cases to run, such as flux_base; all if none is given.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    case: Vec<String>,
    /// The dtype of the encoders and the transformer.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
    /// Folder of the same weights and cases, computed by the reference in that half precision. Our mean error over
    /// the cases may be 1.15 times the reference's; both are measured from the reference's f32.
    #[arg(long, value_name = "DIR")]
    reference_half: Option<PathBuf>,
    /// The device to compute on: cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceConstraint,
    /// Print the tensors of a published model's files as JSON, without a comparison.
    #[arg(long, value_name = "FAMILY", conflicts_with_all = ["case", "tokens", "reference_half"])]
    shapes: Option<String>,
    /// Print one JSON object per line instead of a table.
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

fn print(line: &PartLine, json: bool) {
    let (d, within) = (&line.distance, line.within());
    let theirs = match line.bar {
        Tolerance::Beside { theirs, .. } => Some(theirs),
        Tolerance::Equal
        | Tolerance::Close { .. }
        | Tolerance::Bytes { .. }
        | Tolerance::Half { .. } => None,
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

fn conclude(report: &GoldenReport, json: bool) -> ExitCode {
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

/// Prints the token ids of each prompt in a file.
fn print_tokens(prompts: &Path, folder: Option<&Path>) -> Result<(), WorkerFault> {
    let reader = folder.map_or_else(TokenReader::published, TokenReader::of_folder)?;
    let mut out = std::io::stdout().lock();
    for prompt in tokens::prompts(prompts)? {
        let line = serde_json::to_string(&reader.line(&prompt)?);
        let line = line.map_err(|error| WorkerFault::Compute(error.to_string()))?;
        writeln!(out, "{line}")
            .map_err(|error| WorkerFault::Compute(format!("stdout: {error}")))?;
    }
    Ok(())
}

/// Prints {"transformer": {name: shape, …}, "decoder": …, "t5": …, "clip_l": …, "clip_g": …} of a published model.
fn print_shapes(family: &str) -> Result<(), WorkerFault> {
    let known = families::named(family)?;
    let mut rows = families::TABLE.iter();
    let row = rows.find(|row| row.layout().family == known);
    let published = row.map(|row| row.published()).transpose()?.flatten();
    let Some((_, basis)) = published else {
        let what = "has no published model";
        return Err(WorkerFault::configuration("--shapes", family, what));
    };
    let parts = basis.tensors;
    let named = [
        ("transformer", &parts.transformer),
        ("decoder", &parts.decoder),
        ("t5", &parts.t5),
    ];
    let clips = ["clip_l", "clip_g"].into_iter().zip(&parts.clips);
    let tensors = |part: &Inventory| -> BTreeMap<String, Vec<usize>> {
        let shapes = part.shapes();
        shapes
            .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
            .collect()
    };
    let all: BTreeMap<_, _> = named
        .into_iter()
        .chain(clips)
        .map(|(name, part)| (name, tensors(part)))
        .collect();
    println!("{}", serde_json::json!(all));
    Ok(())
}

fn main() -> ExitCode {
    let arguments = GoldenArguments::parse();
    let asked = (&arguments.shapes, &arguments.tokens, &arguments.folder);
    let compared = match asked {
        (Some(family), ..) => print_shapes(family).map(|()| None),
        (None, Some(prompts), folder) => print_tokens(prompts, folder.as_deref()).map(|()| None),
        (None, None, Some(folder)) => compare(folder, &arguments).map(Some),
        (None, None, None) => Ok(None), // the parser requires one of them
    };
    match compared {
        Ok(report) => report.map_or(ExitCode::SUCCESS, |report| {
            conclude(&report, arguments.json)
        }),
        Err(fault) => {
            eprintln!("golden: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn compare(folder: &Path, arguments: &GoldenArguments) -> Result<GoldenReport, WorkerFault> {
    let mut hear = |line: &PartLine| print(line, arguments.json);
    let device = match arguments.device {
        DeviceConstraint::On(device) => device::open(device)?,
        DeviceConstraint::Auto => device::open(Device::Host)?,
    };
    let measure = Measure {
        dtype: arguments.dtype.into(),
        half: arguments.reference_half.as_deref(),
        device: &device,
    };
    golden::run_beside(folder, &arguments.case, measure, &mut hear)
}
