//! Brings one model from the hub into the store.

use std::fs;
use std::path::{Path, PathBuf};

use ipc_protocol::folders;
use ipc_protocol::untrusted::Untrusted;
use nix::sys::statvfs::statvfs;

use crate::lookup::{HubClient, RemoteFile};
use crate::token::Token;
use crate::transfer::{self, TransferEvent};
use store::event::{FetchEvent, PlannedFile};
use store::lock::ModelLock;
use store::name::is_commit;
use store::order::{FetchOrder, HubSettings, NEWEST};
use store::trouble::FetchError;
use store::{FetchRecord, RecordedFile, Store};

/// Fetches a model and reports each event; the last one is `Done` or `Failed`. Returns whether the model is here.
pub fn run(order: &FetchOrder, settings: &HubSettings, mut report: impl FnMut(FetchEvent)) -> bool {
    if settings.offline {
        let error = FetchError::Offline(order.release.key.to_owned());
        report(failed(&error, None));
        return false;
    }
    let token = Token::find(|name| std::env::var(name).ok(), &login_folder());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(FetchError::at(Path::new("a runtime")));
    let result = runtime
        .and_then(|runtime| runtime.block_on(fetch(order, settings, token.as_ref(), &mut report)));
    if let Err(error) = &result {
        report(failed(error, token.as_ref()));
    }
    result.is_ok()
}

/// The folder in which the hub's own tools keep the token of a login.
fn login_folder() -> PathBuf {
    let cache = || Some(folders::of_user("XDG_CACHE_HOME", ".cache")?.join("huggingface"));
    // Without a home there is no login: the empty path holds no token either.
    folders::from_environment("HF_HOME")
        .or_else(cache)
        .unwrap_or_default()
}

fn failed(error: &FetchError, token: Option<&Token>) -> FetchEvent {
    let message = error.to_string();
    let message = token.map_or(message.clone(), |token| token.conceal(&message));
    FetchEvent::Failed {
        kind: error.kind().to_owned(),
        // The message quotes the hub.
        message: Untrusted::new(message).to_string(),
    }
}

async fn fetch(
    order: &FetchOrder,
    settings: &HubSettings,
    token: Option<&Token>,
    report: &mut impl FnMut(FetchEvent),
) -> Result<(), FetchError> {
    let key = order.release.key;
    let store = Store::at(settings.folder.clone());
    let model = store.model(key);
    fs::create_dir_all(&model).map_err(FetchError::at(&model))?;
    let _lock = ModelLock::take(&model, || report(FetchEvent::Waiting))?;
    // A commit never changes, so the hub is not asked about a published one.
    if is_commit(&order.revision) && is_here(&store, order, &order.revision, report)? {
        return Ok(());
    }
    let hub = HubClient::new(settings.endpoint.as_deref(), token, settings.patience)?;
    let files = plan(&hub, order).await?;
    let commit = files[0].commit.clone();
    if is_here(&store, order, &commit, report)? {
        return Ok(());
    }
    let folder = store.unfinished(key, order.variant.name, &commit);
    fs::create_dir_all(&folder).map_err(FetchError::at(&folder))?;
    check_room(&folder, &files)?;
    report(FetchEvent::Planned {
        commit: commit.clone(),
        files: files
            .iter()
            .map(|file| PlannedFile {
                name: file.to.to_string(),
                bytes: file.bytes,
            })
            .collect(),
    });
    let (recorded, transferred_bytes) = bring(&hub, &files, &folder, report).await?;
    let folder = store.publish(&FetchRecord {
        key: key.to_owned(),
        variant: order.variant.name.to_owned(),
        revision: order.revision.clone(),
        also_called: Vec::new(),
        commit: commit.clone(),
        files: recorded,
    })?;
    report(FetchEvent::Done {
        folder: folder.display().to_string(),
        commit,
        transferred_bytes,
    });
    Ok(())
}

/// Whether a commit is published already. If so, records the revision as one of its names and reports `Done`.
fn is_here(
    store: &Store,
    order: &FetchOrder,
    commit: &str,
    report: &mut impl FnMut(FetchEvent),
) -> Result<bool, FetchError> {
    let Some(found) = store.find(order.release.key, &[order.variant.name], Some(commit)) else {
        return Ok(false);
    };
    store.call(&found, &order.revision)?;
    report(FetchEvent::Done {
        folder: found.folder.display().to_string(),
        commit: commit.to_owned(),
        transferred_bytes: 0,
    });
    Ok(true)
}

/// Lists every file of every part. Only the first part is taken at the order's revision: the others are other
/// repositories, with commits of their own.
async fn plan(hub: &HubClient, order: &FetchOrder) -> Result<Vec<RemoteFile>, FetchError> {
    let mut files = Vec::new();
    for (index, part) in order.variant.parts.iter().enumerate() {
        let revision = if index == 0 { &order.revision } else { NEWEST };
        files.extend(hub.files(part, revision).await?);
    }
    Ok(files)
}

/// Transfers every file; returns the records and the bytes that came over the network.
async fn bring(
    hub: &HubClient,
    files: &[RemoteFile],
    folder: &Path,
    report: &mut impl FnMut(FetchEvent),
) -> Result<(Vec<RecordedFile>, u64), FetchError> {
    let (mut recorded, mut bytes) = (Vec::new(), 0);
    for (index, file) in files.iter().enumerate() {
        let came = transfer::run(hub, file, folder, |event| {
            report(match event {
                TransferEvent::Bytes(bytes) => FetchEvent::Progress { file: index, bytes },
                TransferEvent::Broke(why) => FetchEvent::Retried {
                    file: index,
                    why: Untrusted::new(why).to_string(),
                },
            });
        })
        .await?;
        report(FetchEvent::Checked { file: index });
        bytes += came.bytes;
        recorded.push(RecordedFile {
            name: file.to.to_string(),
            repository: file.repository.to_owned(),
            commit: file.commit.clone(),
            bytes: file.bytes,
            sha256: came.sha256,
        });
    }
    Ok((recorded, bytes))
}

/// Refuses a fetch that the disk cannot hold, before the first byte.
fn check_room(folder: &Path, files: &[RemoteFile]) -> Result<(), FetchError> {
    let here = |name: String| fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    let needed_bytes = files
        .iter()
        .map(|file| {
            let come = here(file.to.to_string()) + here(format!("{}.part", file.to));
            file.bytes.saturating_sub(come)
        })
        .fold(0, u64::saturating_add);
    let room = statvfs(folder).map_err(|errno| FetchError::at(folder)(errno.into()))?;
    let free_bytes = room.blocks_available().saturating_mul(room.fragment_size());
    if needed_bytes > free_bytes {
        return Err(FetchError::NoRoom {
            folder: folder.to_owned(),
            needed_bytes,
            free_bytes,
        });
    }
    Ok(())
}
