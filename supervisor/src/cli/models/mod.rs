//! `imagepool models`: lists, describes, fetches, verifies and removes model files.

pub mod fetch;
mod place;
pub mod verify;

use ipc_protocol::about::Work;
use ipc_protocol::units::Mebibytes;
use pool::{Files, ModelSpec};
use serde_json::json;
use store::release::Release;

use crate::catalogue::looks::Looks;
use crate::catalogue::offer::{self, ReadDepth};
use crate::catalogue::placement::CudaDevices;
use crate::catalogue::served::Served;
use crate::cli::args::ModelsCommand;
use crate::cli::json_output::list as list_of;
use crate::cli::{CommandError, say};
use crate::config::{self, Config, paths};
use crate::process::programs;
use place::{FilesLocation, licence, megabytes, store, trouble};

/// Runs one of the subcommands; returns the exit code.
pub fn run(what: Option<ModelsCommand>, quiet: bool, json: bool) -> Result<u8, CommandError> {
    let config = config::load(paths::default_config().as_deref())
        .map_err(|error| trouble("usage", error.to_string()))?;
    match what.unwrap_or(ModelsCommand::List) {
        ModelsCommand::List => list(&config, json),
        ModelsCommand::Show { model } => show(&config, &model, json),
        ModelsCommand::Fetch {
            model,
            variant,
            revision,
        } => {
            let (variant, revision) = (variant.as_deref(), revision.as_deref());
            let order = offer::fetch_order(&config, &model, variant, revision)
                .map_err(|error| trouble(error.kind(), error.to_string()))?;
            fetch::run(&config, &order, quiet, json)
        }
        ModelsCommand::Verify { model } => verify::run(&config, model.as_deref(), json),
        ModelsCommand::Rm { model } => remove(&config, &model, json),
    }
}

/// The exit code for the kind of a failed command.
pub fn exit_code(kind: &str) -> u8 {
    match kind {
        "usage" | "offline" | "name" => 2,
        "gated" => 4,
        "hub" | "network" => 75,
        _ => 1,
    }
}

fn list(config: &Config, json: bool) -> Result<u8, CommandError> {
    let mut listed = Vec::new();
    for key in config::names::keys(&config.models) {
        let place = FilesLocation::of(config, &key)?;
        let licence = Release::find(&key).map_or("", |release| release.licence.name);
        if json {
            listed.push(json!({
                "key": key,
                "state": place.word(),
                "bytes": place.bytes(),
                "licence": licence,
                "detail": place.detail(),
            }));
            continue;
        }
        let size = place.bytes().map(megabytes).unwrap_or_default();
        let row = format!(
            "{key:<14} {:<9} {size:>10}  {licence:<32} {}",
            place.word(),
            place.detail()
        );
        say::line(row.trim_end());
    }
    if json {
        list_of(listed);
    }
    Ok(0)
}

fn show(config: &Config, key: &str, json: bool) -> Result<u8, CommandError> {
    let place = FilesLocation::of(config, key)?;
    let served = served(config, key);
    let need = served.as_ref().map(|(spec, _)| need(spec));
    let draws = served.as_ref().map_or(&[][..], |(_, served)| &served.draws);
    let rights = served.as_ref().map(|(_, served)| served.rights.clone());
    let rights = rights.unwrap_or_default();
    let release = Release::find(key);
    let record = match &place {
        FilesLocation::Fetched(fetched) => Some(fetched),
        FilesLocation::Synthetic
        | FilesLocation::Embedded
        | FilesLocation::Folder(_)
        | FilesLocation::Missing(_) => None,
    };
    if json {
        say::line(json!({
            "key": key,
            "state": place.word(),
            "bytes": place.bytes(),
            "licence": release
                .map(|release| json!({"name": release.licence.name, "url": release.licence.url}))
                .or(rights.licence.as_ref().map(|name| json!({"name": name, "url": null}))),
            "need_mb": need.ok().map(|need| need.0),
            "draws": draws,
            "attribution": rights.attribution,
            "folder": record.map(|fetched| fetched.folder.display().to_string()),
            "files": record.map(|fetched| &fetched.record.files),
        }));
        return Ok(0);
    }
    say::line(format!("{key}: {} {}", place.word(), place.detail()).trim_end());
    match need {
        Ok(need) => say::line(format!(
            "need: {need} of memory for its default size on a CPU"
        )),
        Err(why) => say::line(format!("need: unknown: {why}")),
    }
    if !draws.is_empty() {
        say::line("draws:");
    }
    for group in draws {
        say::line(format!("  {}: {}", group.name, group.things.join(", ")));
    }
    if let Some(name) = &rights.licence {
        say::line(format!("licence: {name}"));
    }
    for work in &rights.attribution {
        let Work {
            title,
            author,
            licence,
            home,
        } = work;
        say::line(format!(
            "learned from: {title}, {author}, {licence}, {home}"
        ));
    }
    if let Some(release) = release {
        say::line(licence(release));
        for variant in release.variants {
            say::line(format!("variant {}: {}", variant.name, variant.about));
        }
    }
    if let Some(fetched) = record {
        say::line(format!("folder: {}", fetched.folder.display()));
        for file in &fetched.record.files {
            let (bytes, from) = (megabytes(file.bytes), &file.repository);
            say::line(format!(
                "  {} {bytes} sha256 {} from {from}",
                file.name, file.sha256
            ));
        }
    }
    Ok(0)
}

/// Describes a model as the pool would see it; the error says why that is impossible.
fn served(config: &Config, key: &str) -> Result<(ModelSpec, Served), String> {
    let worker = programs::find("worker").map_err(|error| error.to_string())?;
    let looks = Looks::in_folder(paths::default_cache_dir().as_deref());
    let (spec, served) = offer::model(
        (config, CudaDevices::Unknown),
        &worker,
        &looks,
        key,
        ReadDepth::Quick,
    )?;
    match spec.files {
        Files::Broken(why) => Err(why),
        Files::Here { .. } | Files::Unread | Files::Missing(_) => Ok((spec, served)),
    }
}

/// The memory that a picture of the default size needs on a CPU.
fn need(spec: &ModelSpec) -> Mebibytes {
    let residency = spec.need.on_cpu.unwrap_or(Mebibytes::ZERO);
    residency + spec.need.activation.at(spec.default_size)
}

fn remove(config: &Config, key: &str, json: bool) -> Result<u8, CommandError> {
    let release = Release::find(key).ok_or_else(|| {
        trouble(
            "usage",
            format!("{key:?} has no downloaded files: only models of the hub have"),
        )
    })?;
    let waiting = || {
        say::aside(format_args!(
            "imagepool: waiting for another process that is fetching {key}"
        ));
    };
    let bytes = store(config)
        .remove(release.key, waiting)
        .map_err(|error| trouble(error.kind(), error.to_string()))?;
    match json {
        true => say::line(json!({"key": key, "removed_bytes": bytes})),
        false => say::line(format!("{key}: removed {}", megabytes(bytes))),
    }
    Ok(0)
}
