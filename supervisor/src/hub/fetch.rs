//! One model from the hub into the store. Runs in a process of its own, the only one with network and token.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::folders;
use ipc_protocol::untrusted::Untrusted;
use nix::sys::statvfs::statvfs;

use super::event::{Event, PlannedFile};
use super::lock::Lock;
use super::lookup::{Hub, Remote};
use super::name::is_commit;
use super::source::{Release, Variant};
use super::store::{Record, RecordedFile, Store};
use super::token::Token;
use super::transfer::{self, Told};
use super::trouble::FetchError;

/// The revision that is taken where none is named.
pub const NEWEST: &str = "main";

/// How the hub may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Not at all.
    pub offline: bool,
    /// Another hub than the default one.
    pub endpoint: Option<String>,
    /// Where fetched models are.
    pub folder: PathBuf,
    /// The longest silence of the hub that is borne.
    pub patience: Duration,
}

/// What is to be fetched.
#[derive(Debug, Clone)]
pub struct Order {
    /// The model.
    pub release: &'static Release,
    /// The choice of files.
    pub variant: &'static Variant,
    /// A branch, a tag or a commit of its first repository.
    pub revision: String,
}

impl Order {
    /// Reads what a user asked for, or the settings of the model say.
    ///
    /// # Errors
    /// There is no such model or variant.
    pub fn new(
        key: &str,
        variant: Option<&str>,
        revision: Option<&str>,
    ) -> Result<Self, FetchError> {
        let release = Release::find(key).ok_or_else(|| {
            let keys: Vec<_> = Release::all().iter().map(|release| release.key).collect();
            FetchError::Usage(format!(
                "{key:?} cannot be fetched; {} can",
                keys.join(" and ")
            ))
        })?;
        Ok(Self {
            release,
            variant: release.variant(variant).map_err(FetchError::Usage)?,
            revision: revision.unwrap_or(NEWEST).to_owned(),
        })
    }
}

/// Fetches, and tells what happens. The last event is `Done` or `Failed`.
pub fn run(order: &Order, settings: &Settings, mut tell: impl FnMut(Event)) -> bool {
    if settings.offline {
        let error = FetchError::Offline(order.release.key.to_owned());
        tell(failed(&error, None));
        return false;
    }
    let token = Token::find(|name| std::env::var(name).ok(), &login_folder());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(FetchError::at(Path::new("a runtime")));
    let result = runtime
        .and_then(|runtime| runtime.block_on(fetch(order, settings, token.as_ref(), &mut tell)));
    match &result {
        Ok(()) => {}
        Err(error) => tell(failed(error, token.as_ref())),
    }
    result.is_ok()
}

/// Where a login with the hub's other tools leaves its token.
fn login_folder() -> PathBuf {
    let cache = || Some(folders::of_user("XDG_CACHE_HOME", ".cache")?.join("huggingface"));
    // Without a home there is no login, as in a folder that is nowhere.
    folders::from_environment("HF_HOME")
        .or_else(cache)
        .unwrap_or_default()
}

fn failed(error: &FetchError, token: Option<&Token>) -> Event {
    let message = error.to_string();
    let message = token.map_or(message.clone(), |token| token.conceal(&message));
    Event::Failed {
        kind: error.kind().to_owned(),
        // It quotes what the hub said and listed.
        message: Untrusted::new(message).to_string(),
    }
}

async fn fetch(
    order: &Order,
    settings: &Settings,
    token: Option<&Token>,
    tell: &mut impl FnMut(Event),
) -> Result<(), FetchError> {
    let key = order.release.key;
    let store = Store::at(settings.folder.clone());
    let model = store.model(key);
    fs::create_dir_all(&model).map_err(FetchError::at(&model))?;
    let _lock = Lock::take(&model, || tell(Event::Waiting))?;
    // A commit never changes, so one that is here needs no question.
    if is_commit(&order.revision) && is_here(&store, order, &order.revision, tell)? {
        return Ok(());
    }
    let hub = Hub::new(settings.endpoint.as_deref(), token, settings.patience)?;
    let files = plan(&hub, order).await?;
    let commit = files[0].commit.clone();
    if is_here(&store, order, &commit, tell)? {
        return Ok(());
    }
    let folder = store.unfinished(key, order.variant.name, &commit);
    fs::create_dir_all(&folder).map_err(FetchError::at(&folder))?;
    check_room(&folder, &files)?;
    tell(Event::Planned {
        commit: commit.clone(),
        files: files
            .iter()
            .map(|file| PlannedFile {
                name: file.to.to_string(),
                bytes: file.bytes,
            })
            .collect(),
    });
    let (recorded, transferred_bytes) = bring(&hub, &files, &folder, tell).await?;
    let folder = store.publish(&Record {
        key: key.to_owned(),
        variant: order.variant.name.to_owned(),
        revision: order.revision.clone(),
        also_called: Vec::new(),
        commit: commit.clone(),
        files: recorded,
    })?;
    tell(Event::Done {
        folder: folder.display().to_string(),
        commit,
        transferred_bytes,
    });
    Ok(())
}

/// Whether a commit is published; then that is told, and nothing is left to do but to note its new name.
fn is_here(
    store: &Store,
    order: &Order,
    commit: &str,
    tell: &mut impl FnMut(Event),
) -> Result<bool, FetchError> {
    let Some(found) = store.find(order.release.key, &[order.variant.name], Some(commit)) else {
        return Ok(false);
    };
    store.call(&found, &order.revision)?;
    tell(Event::Done {
        folder: found.folder.display().to_string(),
        commit: commit.to_owned(),
        transferred_bytes: 0,
    });
    Ok(true)
}

/// Every file of every part. Only the first part follows the order's revision: the others are other
/// repositories, with commits of their own.
async fn plan(hub: &Hub, order: &Order) -> Result<Vec<Remote>, FetchError> {
    let mut files = Vec::new();
    for (index, part) in order.variant.parts.iter().enumerate() {
        let revision = if index == 0 { &order.revision } else { NEWEST };
        files.extend(hub.files(part, revision).await?);
    }
    Ok(files)
}

/// Brings every file; returns their records and how many bytes came.
async fn bring(
    hub: &Hub,
    files: &[Remote],
    folder: &Path,
    tell: &mut impl FnMut(Event),
) -> Result<(Vec<RecordedFile>, u64), FetchError> {
    let (mut recorded, mut bytes) = (Vec::new(), 0);
    for (index, file) in files.iter().enumerate() {
        let came = transfer::run(hub, file, folder, |told| {
            tell(match told {
                Told::Bytes(bytes) => Event::Progress { file: index, bytes },
                Told::Broke(why) => Event::Retried {
                    file: index,
                    why: Untrusted::new(why).to_string(),
                },
            });
        })
        .await?;
        tell(Event::Checked { file: index });
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

/// Refuses before the first byte what the disk cannot hold.
fn check_room(folder: &Path, files: &[Remote]) -> Result<(), FetchError> {
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
