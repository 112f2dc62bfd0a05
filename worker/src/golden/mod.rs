//! Compares our parts with those of the reference: every part of every case of a folder has a tolerance.
//!
//! A part gets the same input as the reference's, so that an error shows in the part that makes it. Only the lines
//! named `free` use our own values from the initial noise to the last byte.

pub mod case;
#[cfg(test)]
mod half_mutations;
pub mod measure;
mod measured_case;
mod model;
#[cfg(test)]
mod mutations;
pub mod tokens;

use crate::fault::WorkerFault;
use crate::pipelines::families::{flux::Flux, sd3::Sd3};
use candle_core::{DType, Device};
use case::GoldenMeta;
use measure::{Tolerance, ValueDistance};
use measured_case::MeasuredCase;
use std::collections::BTreeMap;
use std::path::Path;

/// The measurement of one part of one case.
#[derive(Debug, Clone)]
pub struct PartLine {
    /// Name of the case, such as `flux_base`.
    pub case: String,
    /// Name of the part, such as `pred.0`, or `pred.0[1]` in a batch.
    pub part: String,
    /// Distance of our values from the reference's.
    pub distance: ValueDistance,
    /// The allowed distance.
    pub bar: Tolerance,
}

impl PartLine {
    /// Tells whether the part is within its tolerance.
    pub fn within(&self) -> bool {
        self.bar.holds(&self.distance)
    }
}

/// The measured lines and the parts that could not be measured.
#[derive(Debug, Default)]
pub struct GoldenReport {
    /// The measured parts in order.
    pub lines: Vec<PartLine>,
    /// Cases of families that are not built yet; they are neither passed nor failed.
    pub not_built: Vec<String>,
}

/// The dtype to compute in, and the reference for half precision.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// The dtype of the encoders and the transformer.
    pub dtype: DType,
    /// A folder of the same weights and cases, computed by the reference in the same half precision.
    pub half: Option<&'a Path>,
    /// The device to compute on.
    pub device: &'a Device,
}

impl Measure<'_> {
    /// In this dtype on the CPU, without a reference in half precision.
    pub fn of(dtype: DType) -> Self {
        Measure {
            dtype,
            half: None,
            device: &Device::Cpu,
        }
    }
}

/// Measures the chosen cases of a folder, or all if none is chosen.
///
/// # Errors
/// Faults of loading the model; an unknown case; a case that lacks a tensor.
pub fn run(
    folder: &Path,
    chosen: &[String],
    dtype: DType,
    hear: &mut dyn FnMut(&PartLine),
) -> Result<GoldenReport, WorkerFault> {
    run_beside(folder, chosen, Measure::of(dtype), hear)
}

/// Like [`run`], in half precision, compared with a reference in half precision.
///
/// # Errors
/// As [`run`].
pub fn run_beside(
    folder: &Path,
    chosen: &[String],
    measure: Measure,
    hear: &mut dyn FnMut(&PartLine),
) -> Result<GoldenReport, WorkerFault> {
    let meta = GoldenMeta::read(folder)?;
    let named = names(&meta, chosen, folder)?;
    let at = meta.model.as_ref();
    let at = at.map_or(folder.to_owned(), |at| folder.join(at));
    let mut report = GoldenReport::default();
    let mut sink = |line: PartLine| {
        hear(&line);
        report.lines.push(line);
    };
    let families = [model::of::<Flux>(), model::of::<Sd3>()];
    for (family, compare) in families {
        let of_family = named.iter().filter(|name| name.starts_with(family.word()));
        let cases =
            of_family.map(|name| MeasuredCase::new(folder, name, &meta.cases[name], measure));
        compare(&at, &cases.collect::<Vec<_>>(), &mut sink)?;
    }
    let means = means(&report.lines);
    means.iter().for_each(hear);
    report.lines.extend(means);
    let known = |name: &String| families.iter().any(|(of, _)| name.starts_with(of.word()));
    let unknown = named.iter().filter(|name| !known(name));
    report.not_built = unknown.cloned().collect();
    Ok(report)
}

/// Computes the means over the cases of a family, for each part whose error varies by chance. Values that two cases
/// have in common, such as the states of the same prompt, count once.
pub(crate) fn means(lines: &[PartLine]) -> Vec<PartLine> {
    let mut groups: BTreeMap<(&str, String), Vec<&PartLine>> = BTreeMap::new();
    for line in lines {
        if line.bar.average().is_some() {
            let family = line.case.split('_').next().unwrap_or_default();
            let group = groups.entry((family, kind(&line.part))).or_default();
            let is_known =
                |other: &&PartLine| (other.distance, other.bar) == (line.distance, line.bar);
            if !group.iter().any(is_known) {
                group.push(line);
            }
        }
    }
    let means = groups.into_iter().filter_map(|((family, part), lines)| {
        let count = lines.len();
        let mean = |of: &dyn Fn(&PartLine) -> f64| {
            lines.iter().map(|line| of(line)).sum::<f64>() / count as f64
        };
        let average = mean(&|line| line.bar.average().unwrap_or(0.0));
        let largest =
            |of: &dyn Fn(&PartLine) -> f64| lines.iter().map(|l| of(l)).fold(0.0, f64::max);
        let values = lines.iter().map(|line| line.distance.count).sum();
        Some(PartLine {
            case: format!("{family} mean"),
            part: format!("{part} of {count}"),
            distance: ValueDistance {
                max: largest(&|line| line.distance.max),
                relative: mean(&|line| line.distance.relative),
                off: mean(&|line| line.distance.off),
                count: values,
                largest: largest(&|line| line.distance.largest),
            },
            bar: lines[0].bar.of_mean(average, count, values)?,
        })
    });
    means.collect()
}

/// The name of a part without step, evaluation and index in the batch: `pred` for `pred.0.prompted[1]`.
fn kind(part: &str) -> String {
    let part = part.split('[').next().unwrap_or_default();
    let is_kind = |word: &&str| *word != "prompted" && word.parse::<u32>().is_err();
    let words: Vec<&str> = part.split('.').filter(is_kind).collect();
    words.join(".")
}

fn names(meta: &GoldenMeta, chosen: &[String], folder: &Path) -> Result<Vec<String>, WorkerFault> {
    if chosen.is_empty() {
        return Ok(meta.cases.keys().cloned().collect());
    }
    let known = |name: &String| {
        let name = name
            .trim_start_matches("golden_")
            .trim_end_matches(".safetensors")
            .to_owned();
        let file = folder.join("meta.json").display().to_string();
        let unknown = || WorkerFault::configuration(file, &name, "is not a case of this folder");
        meta.cases
            .contains_key(&name)
            .then(|| name.clone())
            .ok_or_else(unknown)
    };
    chosen.iter().map(known).collect()
}
