//! The tables of the journal, in one file of redb.
//!
//! redb writes copies of changed pages and points to them with one checked header, so that a torn write is never
//! read: after a crash the file holds the last commit that was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use pool::{JobPast, LastingFact, MeasuredNeed, QuarantinedRequest};
use redb::{
    Database, DatabaseError, Durability, Key, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::contents::{JournalContents, RememberedJob, RememberedRequest};
use super::orders::{JournalOrder, PixelsKept};
use super::values::{
    EndRecord, NeedRecord, PastRecord, QuarantineRecord, RequestRecord, RestoredEnd,
};
use crate::telemetry;

/// By the id of its first job; its jobs have the ids after it.
const REQUESTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("requests");
/// By the id of the job.
const ENDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ends");
/// By the id of the job.
const PASTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pasts");
/// By the name of the fingerprint.
const QUARANTINE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("quarantine");
/// By the key of the model.
const NEEDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("needs");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
/// Ids of jobs up to this one may be in use.
const LAST_ID: &str = "last_id";
/// Requests in quarantine that are kept; the oldest are dropped. The pool keeps as many.
const QUARANTINE_MAX: usize = 1000;
/// Memory for pages of the file, in bytes.
const CACHE_BYTES: usize = 4 << 20;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseFault {
    /// Another daemon has it open.
    #[error("another daemon uses it")]
    InUse,
    /// Its bytes are not those that were written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The disk or the folder does not do what it should.
    #[error("{0}")]
    Io(io::Error),
}

/// The open file.
#[derive(Debug)]
pub(super) struct JournalDatabase(Database);

impl JournalDatabase {
    /// Opens the file, repairs it after a crash, or creates it.
    pub fn open(path: &Path) -> Result<Self, DatabaseFault> {
        let opened = Self::builder().create(path).map_err(fault_of_open)?;
        Self::checked(opened)
    }

    /// The same on another storage.
    #[cfg(test)]
    pub fn on(backend: impl redb::StorageBackend) -> Result<Self, DatabaseFault> {
        let opened = Self::builder().create_with_backend(backend);
        Self::checked(opened.map_err(fault_of_open)?)
    }

    fn builder() -> redb::Builder {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder
    }

    /// Checks every page, because damage of a closed file would be found in the middle of a job else.
    fn checked(mut database: Database) -> Result<Self, DatabaseFault> {
        database.check_integrity().map_err(fault_of_open)?;
        Ok(Self(database))
    }

    /// Carries out orders in one commit, which is on the disk when this returns.
    pub fn commit(&self, orders: &[JournalOrder], now_ms: u64) -> Result<(), DatabaseFault> {
        let mut transaction = self.0.begin_write().map_err(fault)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(fault)?;
        for order in orders {
            carry_out(&transaction, order, now_ms)?;
        }
        transaction.commit().map_err(fault)
    }

    /// Reads everything. Records that cannot be read are reported and left out.
    pub fn read(&self, now_ms: u64) -> Result<JournalContents, DatabaseFault> {
        let transaction = self.0.begin_read().map_err(fault)?;
        Ok(JournalContents {
            requests: requests(&transaction, now_ms)?,
            quarantine: quarantine(&transaction, now_ms)?,
            needs: needs(&transaction)?,
            last_id: match table(transaction.open_table(COUNTERS))? {
                Some(counters) => {
                    let last = counters.get(LAST_ID).map_err(fault)?;
                    last.map_or(0, |last| last.value())
                }
                None => 0,
            },
        })
    }
}

fn carry_out(
    transaction: &WriteTransaction,
    order: &JournalOrder,
    now_ms: u64,
) -> Result<(), DatabaseFault> {
    match order {
        JournalOrder::Accept(request) => {
            let jobs = &request.accepted.jobs;
            let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else {
                return Ok(());
            };
            let mut requests = transaction.open_table(REQUESTS).map_err(fault)?;
            let record = json(&RequestRecord::of(request));
            requests.insert(first.0, &*record).map_err(fault)?;
            raise_last_id(transaction, last.0)
        }
        JournalOrder::End { job, end } => {
            let mut pasts = transaction.open_table(PASTS).map_err(fault)?;
            pasts.remove(job.0).map_err(fault)?;
            put_end(transaction, *job, &EndRecord::of(end, now_ms))
        }
        JournalOrder::DropPixels { job, why } => {
            let record = {
                let ends = transaction.open_table(ENDS).map_err(fault)?;
                let record = ends.get(job.0).map_err(fault)?;
                record.and_then(|record| parsed::<EndRecord>("end", &job.0, record.value()))
            };
            let Some(mut record) = record else {
                return Ok(());
            };
            record.drop_pixels(*why);
            put_end(transaction, *job, &record)
        }
        JournalOrder::Forget { jobs } => jobs.iter().try_for_each(|job| forget(transaction, *job)),
        JournalOrder::Remember(fact) => remember(transaction, fact, now_ms),
        JournalOrder::LeaseIds { last } => raise_last_id(transaction, last.0),
        JournalOrder::SettleIds { last } => {
            let mut counters = transaction.open_table(COUNTERS).map_err(fault)?;
            counters.insert(LAST_ID, last.0).map_err(fault)?;
            Ok(())
        }
    }
}

fn put_end(
    transaction: &WriteTransaction,
    job: JobId,
    record: &EndRecord,
) -> Result<(), DatabaseFault> {
    let mut ends = transaction.open_table(ENDS).map_err(fault)?;
    ends.insert(job.0, &*json(record)).map_err(fault)?;
    Ok(())
}

fn raise_last_id(transaction: &WriteTransaction, last: u64) -> Result<(), DatabaseFault> {
    let mut counters = transaction.open_table(COUNTERS).map_err(fault)?;
    let before = counters.get(LAST_ID).map_err(fault)?;
    let before = before.map_or(0, |before| before.value());
    counters.insert(LAST_ID, before.max(last)).map_err(fault)?;
    Ok(())
}

/// Forgets a job; with the last one of a request, the request.
fn forget(transaction: &WriteTransaction, job: JobId) -> Result<(), DatabaseFault> {
    let mut requests = transaction.open_table(REQUESTS).map_err(fault)?;
    let mut ends = transaction.open_table(ENDS).map_err(fault)?;
    let mut pasts = transaction.open_table(PASTS).map_err(fault)?;
    pasts.remove(job.0).map_err(fault)?;
    let request = {
        let mut up_to = requests.range(..=job.0).map_err(fault)?;
        match up_to.next_back().transpose().map_err(fault)? {
            Some((first, record)) => {
                let record = parsed::<RequestRecord>("request", &first.value(), record.value());
                record.map(|record| record.jobs())
            }
            None => None,
        }
    };
    let Some(jobs) = request.filter(|jobs| jobs.contains(&job.0)) else {
        ends.remove(job.0).map_err(fault)?;
        return Ok(());
    };
    let forgotten = json(&EndRecord::forgotten());
    ends.insert(job.0, &*forgotten).map_err(fault)?;
    for other in jobs.clone() {
        let end = ends.get(other).map_err(fault)?;
        let end = end.and_then(|end| parsed::<EndRecord>("end", &other, end.value()));
        if !end.is_some_and(|end| end.is_forgotten()) {
            return Ok(());
        }
    }
    requests.remove(jobs.start).map_err(fault)?;
    for other in jobs {
        ends.remove(other).map_err(fault)?;
    }
    Ok(())
}

fn remember(
    transaction: &WriteTransaction,
    fact: &LastingFact,
    now_ms: u64,
) -> Result<(), DatabaseFault> {
    match fact {
        LastingFact::JobLost { job, past } => {
            let mut pasts = transaction.open_table(PASTS).map_err(fault)?;
            let record = json(&PastRecord::of(past));
            pasts.insert(job.0, &*record).map_err(fault)?;
        }
        LastingFact::Quarantined(request) => {
            let mut kept = transaction.open_table(QUARANTINE).map_err(fault)?;
            let record = json(&QuarantineRecord::of(request, now_ms));
            kept.insert(&*request.name, &*record).map_err(fault)?;
        }
        LastingFact::Released { names } => {
            let mut kept = transaction.open_table(QUARANTINE).map_err(fault)?;
            for name in names {
                kept.remove(&**name).map_err(fault)?;
            }
        }
        LastingFact::NeedMeasured(need) => {
            let mut needs = transaction.open_table(NEEDS).map_err(fault)?;
            let record = json(&NeedRecord::of(need));
            needs.insert(need.model.as_str(), &*record).map_err(fault)?;
        }
    }
    Ok(())
}

/// Gives the records of a table to `take`, in the order of their keys. One that cannot be read is reported and left out.
fn each_record<K: Key + 'static, R: DeserializeOwned>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, &[u8]>,
    kind: &str,
    mut take: impl FnMut(K::SelfType<'_>, R),
) -> Result<(), DatabaseFault>
where
    for<'a> K::SelfType<'a>: Display,
{
    let Some(table) = table(transaction.open_table(definition))? else {
        return Ok(());
    };
    for entry in table.iter().map_err(fault)? {
        let (key, record) = entry.map_err(fault)?;
        if let Some(record) = parsed(kind, &key.value(), record.value()) {
            take(key.value(), record);
        }
    }
    Ok(())
}

fn requests(
    transaction: &ReadTransaction,
    now_ms: u64,
) -> Result<Vec<RememberedRequest>, DatabaseFault> {
    let mut all = Vec::new();
    let mut ends = ends(transaction)?;
    let mut pasts = pasts(transaction)?;
    let take = |first, record: RequestRecord| {
        let Some(request) = told("request", &first, record.restored()) else {
            return;
        };
        let job = |id: &JobId| {
            let job = match ends.remove(&id.0) {
                None => RememberedJob::Unanswered(pasts.remove(&id.0).unwrap_or_default()),
                Some(RestoredEnd { end: None, .. }) => return None,
                Some(RestoredEnd {
                    end: Some((end, pixels)),
                    at_ms,
                }) => RememberedJob::Ended {
                    end,
                    age: Duration::from_millis(now_ms.saturating_sub(at_ms)),
                    pixels,
                },
            };
            Some((*id, job))
        };
        let jobs = request.accepted.jobs.iter().filter_map(job).collect();
        all.push(RememberedRequest { request, jobs });
    };
    each_record(transaction, REQUESTS, "request", take)?;
    Ok(all)
}

fn ends(transaction: &ReadTransaction) -> Result<BTreeMap<u64, RestoredEnd>, DatabaseFault> {
    let mut all = BTreeMap::new();
    each_record(transaction, ENDS, "end", |job, record: EndRecord| {
        all.extend(told("end", &job, record.restored()).map(|end| (job, end)));
    })?;
    Ok(all)
}

fn pasts(transaction: &ReadTransaction) -> Result<BTreeMap<u64, JobPast>, DatabaseFault> {
    let mut all = BTreeMap::new();
    each_record(transaction, PASTS, "past", |job, record: PastRecord| {
        all.insert(job, record.restored());
    })?;
    Ok(all)
}

/// The requests in quarantine, the newest of them.
fn quarantine(
    transaction: &ReadTransaction,
    now_ms: u64,
) -> Result<Vec<QuarantinedRequest>, DatabaseFault> {
    let mut all = Vec::new();
    let take = |name: &str, record: QuarantineRecord| {
        all.extend(told("quarantine", &name, record.restored(name, now_ms)));
    };
    each_record(transaction, QUARANTINE, "quarantine", take)?;
    all.sort_by_key(|request: &QuarantinedRequest| request.age);
    Ok(all)
}

fn needs(transaction: &ReadTransaction) -> Result<Vec<MeasuredNeed>, DatabaseFault> {
    let mut all = Vec::new();
    let take = |model: &str, record: NeedRecord| {
        all.extend(told("need", &model, record.restored(model)));
    };
    each_record(transaction, NEEDS, "need", take)?;
    Ok(all)
}

impl JournalContents {
    /// The orders that remove records which are too many.
    pub(super) fn prune(&mut self) -> Option<JournalOrder> {
        let kept = self.quarantine.len().min(QUARANTINE_MAX);
        let beyond: BTreeSet<String> = self
            .quarantine
            .drain(kept..)
            .map(|request| request.name)
            .collect();
        (!beyond.is_empty()).then(|| {
            JournalOrder::Remember(LastingFact::Released {
                names: beyond.into_iter().collect(),
            })
        })
    }

    /// Whether a job has no answer yet.
    pub(super) fn is_unanswered(&self, job: JobId) -> bool {
        self.requests
            .iter()
            .any(|request| matches!(request.jobs.get(&job), Some(RememberedJob::Unanswered(_))))
    }

    /// Whether the pixels of a job's picture are needed.
    pub(super) fn needs_pixels(&self, job: JobId) -> bool {
        self.requests.iter().any(|request| {
            matches!(
                request.jobs.get(&job),
                Some(RememberedJob::Ended {
                    pixels: PixelsKept::Yes,
                    ..
                })
            )
        })
    }
}

/// A table that may not have been written to yet.
fn table<T>(opened: Result<T, TableError>) -> Result<Option<T>, DatabaseFault> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have text keys, and serialising one cannot fail")
}

/// Parses a record; one that cannot be read is reported and left out.
fn parsed<T: DeserializeOwned>(kind: &str, key: &dyn Display, bytes: &[u8]) -> Option<T> {
    let record = serde_json::from_slice(bytes);
    told(kind, key, record.map_err(|error| error.to_string()))
}

fn told<T>(kind: &str, key: &dyn Display, record: Result<T, String>) -> Option<T> {
    record
        .inspect_err(|error| telemetry::job_journal::record_skipped(kind, key, error))
        .ok()
}

fn fault_of_open(error: DatabaseError) -> DatabaseFault {
    match error {
        DatabaseError::DatabaseAlreadyOpen => DatabaseFault::InUse,
        other => fault(other),
    }
}

fn fault(error: impl Into<redb::Error>) -> DatabaseFault {
    match error.into() {
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            DatabaseFault::Damaged(error.to_string())
        }
        redb::Error::Io(error) => DatabaseFault::Io(error),
        redb::Error::PreviousIo => {
            DatabaseFault::Io(io::Error::other("an earlier error of the disk"))
        }
        redb::Error::DatabaseAlreadyOpen => DatabaseFault::InUse,
        other => DatabaseFault::Damaged(other.to_string()),
    }
}
