//! Queries to a hub: the commit of a revision, its files, their sizes and digests.
//!
//! A hub answers `api/models/…/revision/…` and `…/tree/…`. A plain mirror answers only HEAD and GET of the files,
//! with `ETag` and `X-Repo-Commit`; both are supported.

use std::ops::Deref;
use std::time::Duration;

use hf_hub::HFClient;
use hf_hub::repository::RepoTreeEntry;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::http::{Http, NoAnswer};
use crate::listing::{self, NoListing};
use crate::token::Token;
use store::digest::StatedDigest;
use store::name::{FileName, is_commit};
use store::release::{RepositoryPart, WantedFiles};
use store::trouble::FetchError;

/// Longest answer that names the commit of a revision. The largest known one has about 20 KiB.
const REVISION_BYTES_MAX: usize = 1 << 20;
/// Most characters of the hub's own text that an error quotes.
const SAID_LETTERS_MAX: usize = 200;

/// A client of a hub or of a mirror.
pub struct HubClient {
    endpoint: String,
    http: Http,
    with_token: bool,
}

/// A file of a repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// `owner/name`
    pub repository: &'static str,
    /// The commit.
    pub commit: String,
    /// Its name in the repository.
    pub name: FileName,
    /// Its name in the folder of the model.
    pub to: FileName,
    /// Size in bytes.
    pub bytes: u64,
    /// The digest that the hub states.
    pub stated: StatedDigest,
}

/// The used part of a hub's answer about a revision.
#[derive(Deserialize)]
struct Revision {
    sha: Option<String>,
}

impl HubClient {
    /// Makes a client of the hub at `endpoint`, or of the default one, which waits no longer than `patience` for data.
    ///
    /// # Errors
    /// An invalid endpoint.
    pub fn new(
        endpoint: Option<&str>,
        token: Option<&Token>,
        patience: Duration,
    ) -> Result<Self, FetchError> {
        // The client knows the default endpoint; it sends nothing, because it would send the token to every host that a
        // redirect leads to.
        let mut builder = HFClient::builder();
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint(endpoint);
        }
        let client = builder
            .build()
            .map_err(|error| FetchError::Usage(format!("hub.endpoint: {error}")))?;
        let endpoint = client.endpoint().to_owned();
        let http = Http::new(&endpoint, token, patience)
            .map_err(|error| FetchError::Usage(format!("hub.endpoint: {error}")))?;
        Ok(Self {
            endpoint,
            http,
            with_token: token.is_some(),
        })
    }

    /// Lists the files of a part at a revision, with sizes and digests.
    ///
    /// # Errors
    /// The hub refuses or does not answer, lacks a file, or states no digest of one.
    pub async fn files(
        &self,
        part: &RepositoryPart,
        revision: &str,
    ) -> Result<Vec<RemoteFile>, FetchError> {
        let commit = match is_commit(revision) {
            true => Ok(Some(revision.to_owned())),
            false => self.commit(part.repository, revision).await,
        };
        let listed = match commit? {
            Some(commit) => self.listed(part, &commit).await?,
            None => None,
        };
        match listed {
            Some(files) => Ok(files),
            None => self.headed(part, revision).await,
        }
    }

    /// Requests the bytes of a file from `begin` on.
    pub async fn bytes(&self, file: &RemoteFile, begin: u64) -> Result<Response, FetchError> {
        let repository = file.repository.split('/');
        let name = file.name.as_str().split('/');
        let url = self
            .http
            .url(repository.chain(["resolve", &file.commit]).chain(name));
        let answer = self.http.get(&url, begin).await;
        let what = format!("{} of {}", file.name, file.repository);
        answer.map_err(|error| self.refused(what, file.repository, error))
    }

    /// Reads the next bytes of a file; `None` at its end.
    ///
    /// # Errors
    /// A sentence: the connection broke, or no data came for too long.
    pub async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<impl Deref<Target = [u8]> + use<>>, String> {
        self.http
            .chunk(response)
            .await
            .map_err(|error| match error {
                NoAnswer::Broke(why) => shortened(&why),
                NoAnswer::Status(status, _) => status.to_string(),
                NoAnswer::TooLong(most) => format!("it has more than {most} bytes"),
            })
    }

    /// Asks for the commit of a revision; `None` if the mirror does not know this request.
    async fn commit(&self, repository: &str, revision: &str) -> Result<Option<String>, FetchError> {
        let what = format!("revision {revision} of {repository}");
        let parts = ["api", "models"].into_iter().chain(repository.split('/'));
        let url = self.http.url(parts.chain(["revision", revision]));
        let said = async {
            let response = self.http.get(&url, 0).await?;
            self.http.body(response, REVISION_BYTES_MAX).await
        };
        let said = match said.await {
            Ok(said) => said,
            Err(error) => {
                return match self.refused(what, repository, error) {
                    FetchError::Absent { .. } => Ok(None),
                    error => Err(error),
                };
            }
        };
        let sha = serde_json::from_slice::<Revision>(&said).map(|revision| revision.sha);
        match sha {
            Ok(Some(sha)) if is_commit(&sha) => Ok(Some(sha)),
            other => Err(FetchError::Answer {
                status: "with no commit".into(),
                what,
                said: format!(": {}", shortened(&format!("{other:?}"))),
            }),
        }
    }

    /// Takes the wanted files from the repository's listing; `None` if the mirror has no listings.
    async fn listed(
        &self,
        part: &RepositoryPart,
        commit: &str,
    ) -> Result<Option<Vec<RemoteFile>>, FetchError> {
        let what = format!("the listing of {}", part.repository);
        let parts = ["api", "models"]
            .into_iter()
            .chain(part.repository.split('/'));
        let mut url = self.http.url(parts.chain(["tree", commit]));
        url.set_query(Some("recursive=true"));
        let entries = match listing::read(&self.http, url).await {
            Ok(entries) => entries,
            Err(NoListing::TooLong) => return Err(FetchError::Endless { what }),
            Err(NoListing::Malformed(why)) => {
                return Err(FetchError::Answer {
                    status: "incompletely".into(),
                    what,
                    said: format!(": {}", shortened(&why)),
                });
            }
            Err(NoListing::NoAnswer(error)) => {
                return match self.refused(what, part.repository, error) {
                    FetchError::Absent { .. } => Ok(None),
                    error => Err(error),
                };
            }
        };
        choose(part, commit, &entries).map(Some)
    }

    /// Asks for the wanted files one by one, with HEAD.
    async fn headed(
        &self,
        part: &RepositoryPart,
        revision: &str,
    ) -> Result<Vec<RemoteFile>, FetchError> {
        let mut files = Vec::new();
        for want in part.wants {
            let WantedFiles::File { from, to } = want else {
                return Err(FetchError::Usage(format!(
                    "this mirror lists no files of {}, and this variant needs the listing; choose another variant",
                    part.repository
                )));
            };
            let what = format!("{from} at {revision} of {}", part.repository);
            let address = part.repository.split('/').chain(["resolve", revision]);
            let url = self.http.url(address.chain(from.split('/')));
            let found = match self.http.head(&url).await {
                Ok(found) => found,
                Err(error) => return Err(self.refused(what, part.repository, error)),
            };
            let (commit, bytes) = match (found.commit.filter(|sha| is_commit(sha)), found.bytes) {
                (Some(commit), Some(bytes)) => (commit, bytes),
                (commit, _) => {
                    let missing = match commit {
                        None => "with no commit",
                        Some(_) => "with no size",
                    };
                    return Err(FetchError::Answer {
                        status: missing.into(),
                        what,
                        said: String::new(),
                    });
                }
            };
            let stated = found.etag.as_deref().and_then(StatedDigest::from_etag);
            files.push(RemoteFile {
                repository: part.repository,
                commit,
                name: FileName::new(from).map_err(FetchError::Name)?,
                to: FileName::new(to).map_err(FetchError::Name)?,
                bytes,
                stated: stated.ok_or_else(|| FetchError::Unstated { file: what.clone() })?,
            });
        }
        Ok(files)
    }

    /// Translates a failed request.
    fn refused(&self, what: String, repository: &str, error: NoAnswer) -> FetchError {
        match error {
            NoAnswer::Status(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => {
                self.gated(repository, status.as_u16())
            }
            NoAnswer::Status(StatusCode::NOT_FOUND, _) => FetchError::Absent { what },
            NoAnswer::Status(status, words) => FetchError::Answer {
                status: status.to_string(),
                what,
                said: words
                    .map(|words| format!(": {}", shortened(&words)))
                    .unwrap_or_default(),
            },
            NoAnswer::Broke(why) => FetchError::Network {
                what,
                why: shortened(&why),
            },
            NoAnswer::TooLong(_) => FetchError::Endless { what },
        }
    }

    fn gated(&self, repository: &str, status: u16) -> FetchError {
        let page = format!("{}/{repository}", self.endpoint);
        let token = match self.with_token {
            true => "the token that was sent does not open it: its owner has to accept the licence",
            false => "no token was sent: accept the licence",
        };
        FetchError::Gated(format!(
            "{repository} is gated (the hub answered {status}) and {token} at {page} and set HF_TOKEN to a token \
             of the same account; or fetch the copy that needs none: --variant ungated"
        ))
    }
}

/// Picks the wanted entries of a listing, in the order of the wants.
fn choose(
    part: &RepositoryPart,
    commit: &str,
    entries: &[RepoTreeEntry],
) -> Result<Vec<RemoteFile>, FetchError> {
    let mut files = Vec::new();
    for want in part.wants {
        let before = files.len();
        for entry in entries {
            let RepoTreeEntry::File {
                oid,
                size,
                path,
                lfs,
                ..
            } = entry
            else {
                continue;
            };
            let Some(to) = want.takes(path) else { continue };
            let stated = match lfs {
                // hf-hub 1.0 drops the SHA-256 of a listing; the git id of the pointer file proves it too.
                Some(lfs) => lfs
                    .sha256
                    .as_deref()
                    .and_then(StatedDigest::from_etag)
                    .or_else(|| of_git(oid, StatedDigest::GitPointer)),
                None => of_git(oid, StatedDigest::GitBlob),
            };
            files.push(RemoteFile {
                repository: part.repository,
                commit: commit.to_owned(),
                name: FileName::new(path).map_err(FetchError::Name)?,
                to: FileName::new(&to).map_err(FetchError::Name)?,
                bytes: lfs.as_ref().and_then(|lfs| lfs.size).unwrap_or(*size),
                stated: stated.ok_or_else(|| FetchError::Unstated { file: path.clone() })?,
            });
        }
        if files.len() == before {
            let name = match want {
                WantedFiles::File { from, .. } => from,
                WantedFiles::Folder(folder) => folder,
            };
            return Err(FetchError::Absent {
                what: format!("{name} at {commit} of {}", part.repository),
            });
        }
    }
    Ok(files)
}

fn of_git(oid: &str, stated: impl FnOnce(String) -> StatedDigest) -> Option<StatedDigest> {
    is_commit(oid).then(|| stated(oid.to_owned()))
}

fn shortened(text: &str) -> String {
    text.chars().take(SAID_LETTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(text: &str) -> Vec<RepoTreeEntry> {
        serde_json::from_str(text).expect("as a hub answers")
    }

    const PART: RepositoryPart = RepositoryPart {
        repository: "o/n",
        wants: &[WantedFiles::Folder("vae")],
    };
    const OID: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    #[test]
    fn a_listing_gives_sizes_and_digests_of_small_and_large_files() {
        let entries = listing(&format!(
            r#"[{{"type":"directory","oid":"{OID}","path":"vae"}},
                {{"type":"file","oid":"{OID}","size":6,"path":"vae/config.json"}},
                {{"type":"file","oid":"{OID}","size":9,"path":"vae/a.safetensors",
                  "lfs":{{"oid":"x","size":9,"pointerSize":134}}}}]"#
        ));
        let files = choose(&PART, OID, &entries).expect("two files");
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].stated, StatedDigest::GitBlob(OID.into()));
        assert_eq!(files[1].stated, StatedDigest::GitPointer(OID.into()));
        assert_eq!(files[1].bytes, 9);
    }

    #[test]
    fn a_listed_name_that_leads_elsewhere_is_refused() {
        let entries = listing(&format!(
            r#"[{{"type":"file","oid":"{OID}","size":6,"path":"vae/..\\..\\escape.json"}}]"#
        ));
        let error = choose(&PART, OID, &entries).expect_err("a bad name");
        assert_eq!(error.kind(), "name");
    }

    #[test]
    fn a_file_that_is_not_listed_is_named() {
        let error = choose(&PART, OID, &[]).expect_err("nothing there");
        assert!(error.to_string().contains("vae"), "{error}");
    }
}
