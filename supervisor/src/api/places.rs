//! Places for the clients of all doors: bounded in all, and for each user.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard};

use ipc_protocol::failure::{Failure, FailureKind};
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Notify;

use super::rights::ClientRights;
use super::unsent::UnsentBytes;
use crate::process::reserve::{self, DescriptorReserve};

/// Descriptors that the daemon needs besides workers and clients.
const OWN: u64 = 32;
/// Most clients, whatever the limit of open files is.
const ALL_MAX: u64 = 4096;
/// Places beyond the limit that only operators get, for short questions.
const BRIEF: usize = 4;

/// The user of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientUser {
    /// A user of this machine.
    Uid(u32),
    /// All clients over TCP count as one user.
    Tcp,
}

/// The places. Cheap to clone; all clones are the same ones.
#[derive(Debug, Clone)]
pub struct ClientPlaces(Arc<PlacesParts>);

#[derive(Debug)]
struct PlacesParts {
    limits: PlaceLimits,
    reserve: DescriptorReserve,
    unsent: UnsentBytes,
    table: Mutex<PlaceTable>,
}

/// The most clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceLimits {
    /// In all, besides a few operators.
    all: usize,
    /// Of one user who is not an operator.
    of_user: usize,
}

impl PlaceLimits {
    /// The limits of a process that may have this number of open files: a quarter of what it does not need itself stays for
    /// workers, and no user takes more than half of the rest.
    pub fn of(open_files: u64) -> Self {
        let free = open_files.saturating_sub(OWN + reserve::START as u64);
        let all = (free / 4 * 3).clamp(4, ALL_MAX) as usize;
        let of_user = all / 2;
        Self { all, of_user }
    }

    /// Those of this process.
    pub fn own() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE);
        Self::of(limit.map_or(ALL_MAX, |(soft, _)| soft))
    }
}

#[derive(Debug, Default)]
struct PlaceTable {
    clients: BTreeMap<u64, PlacedClient>,
    next: u64,
    /// Counts every beginning of an idle time.
    idle_next: u64,
}

#[derive(Debug)]
struct PlacedClient {
    user: ClientUser,
    /// Order in which it became idle; `None` if it is not.
    idle_since: Option<u64>,
    is_brief: bool,
    is_leaving: bool,
    leave: Arc<Notify>,
}

/// Why there is no place for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// This number of clients is served.
    InAll(usize),
    /// This number of clients of its user is served.
    OfUser(usize),
    /// No file descriptor is left.
    Descriptors,
}

impl Display for NoPlace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (most, whom) = match self {
            Self::InAll(most) => (most, "clients"),
            Self::OfUser(most) => (most, "clients of your user"),
            Self::Descriptors => {
                let none = "the daemon has no file descriptors left for another client: try again, or raise its limit of open files";
                return f.write_str(none);
            }
        };
        write!(
            f,
            "the daemon serves {most} {whom}, and all of them are busy: try again, or raise its limit of open files"
        )
    }
}

impl From<NoPlace> for Failure {
    fn from(none: NoPlace) -> Self {
        Self::new(FailureKind::QueueFull, none.to_string()).retry_after_ms(1000)
    }
}

impl PlaceTable {
    fn of_user(&self, user: ClientUser) -> usize {
        let stays = |client: &&PlacedClient| client.user == user && !client.is_leaving;
        self.clients.values().filter(stays).count()
    }

    fn all(&self) -> usize {
        let clients = self.clients.values();
        clients.filter(|client| !client.is_leaving).count()
    }

    fn brief(&self) -> usize {
        let stays = |client: &&PlacedClient| client.is_brief && !client.is_leaving;
        self.clients.values().filter(stays).count()
    }

    /// Disconnects the client that has been idle longest, of this user or of all. Returns whether there was one.
    fn end_idle(&mut self, user: Option<ClientUser>) -> bool {
        let of_user = |client: &&mut PlacedClient| {
            !client.is_leaving && user.is_none_or(|user| client.user == user)
        };
        let idle = self.clients.values_mut().filter(of_user);
        let idle = idle.filter_map(|client| Some((client.idle_since?, client)));
        let Some((_, oldest)) = idle.min_by_key(|(since, _)| *since) else {
            return false;
        };
        oldest.is_leaving = true;
        oldest.leave.notify_one();
        true
    }
}

impl ClientPlaces {
    /// Places within these limits; their descriptors go to the reserve when clients leave.
    pub fn new(limits: PlaceLimits, reserve: DescriptorReserve) -> Self {
        Self(Arc::new(PlacesParts {
            limits,
            reserve,
            unsent: UnsentBytes::default(),
            table: Mutex::default(),
        }))
    }

    /// Gives a client of the native door a place.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(&self, rights: ClientRights) -> Result<ClientPlace, NoPlace> {
        self.enter_as(ClientUser::Uid(rights.uid()), rights.operator)
    }

    /// Gives a client a place. If there is none, the client that has been idle longest is disconnected for it; a user who has
    /// all its places loses one of its own. An operator gets a place for short questions even if nobody is idle.
    ///
    /// # Errors
    /// There is none.
    pub fn enter_as(&self, user: ClientUser, operator: bool) -> Result<ClientPlace, NoPlace> {
        let limits = self.0.limits;
        let mut table = self.table();
        let is_over = !operator && table.of_user(user) >= limits.of_user;
        if is_over && !table.end_idle(Some(user)) {
            return Err(NoPlace::OfUser(limits.of_user));
        }
        let mut is_brief = false;
        if table.all() >= limits.all && !table.end_idle(None) {
            is_brief = operator && table.brief() < BRIEF;
            if !is_brief {
                return Err(NoPlace::InAll(limits.all));
            }
        }
        Ok(self.placed(table, user, is_brief))
    }

    /// Gives a client a place although no descriptor is left: that of an idle client, which is disconnected unless one is
    /// leaving already, else, if it is an operator, one for short questions.
    ///
    /// # Errors
    /// There is none.
    pub fn enter_scarce(&self, rights: ClientRights) -> Result<ClientPlace, NoPlace> {
        let mut table = self.table();
        let user = ClientUser::Uid(rights.uid());
        let limits = self.0.limits;
        if !rights.operator && table.of_user(user) >= limits.of_user {
            return Err(NoPlace::OfUser(limits.of_user));
        }
        let is_leaving = table.clients.len() > table.all();
        if is_leaving || table.end_idle(None) {
            return Ok(self.placed(table, user, false));
        }
        if !rights.operator || table.brief() >= BRIEF {
            return Err(NoPlace::Descriptors);
        }
        Ok(self.placed(table, user, true))
    }

    fn placed(
        &self,
        mut table: MutexGuard<'_, PlaceTable>,
        user: ClientUser,
        is_brief: bool,
    ) -> ClientPlace {
        let (number, leave) = (table.next, Arc::new(Notify::new()));
        table.next += 1;
        let client = PlacedClient {
            user,
            idle_since: None,
            is_brief,
            is_leaving: false,
            leave: Arc::clone(&leave),
        };
        table.clients.insert(number, client);
        ClientPlace {
            places: self.clone(),
            number,
            leave,
            is_brief,
        }
    }

    /// The bytes that wait for all of the clients.
    pub fn unsent(&self) -> UnsentBytes {
        self.0.unsent.clone()
    }

    /// Disconnects idle clients until this number has been told to leave. Returns how many were told now.
    pub fn make_room(&self, wanted: usize) -> usize {
        let mut table = self.table();
        let leaving = table.clients.len() - table.all();
        let missing = wanted.saturating_sub(leaving);
        (0..missing).take_while(|_| table.end_idle(None)).count()
    }

    fn table(&self) -> MutexGuard<'_, PlaceTable> {
        let table = self.0.table.lock();
        table.expect("no holder of this lock can panic")
    }
}

/// The place of one client, until it is dropped.
#[derive(Debug)]
pub struct ClientPlace {
    places: ClientPlaces,
    number: u64,
    leave: Arc<Notify>,
    /// Whether it is only for short questions: no pictures, and nothing that is followed.
    pub is_brief: bool,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.places.table().clients.remove(&self.number);
        self.places.0.reserve.refill();
    }
}

impl ClientPlace {
    /// The bytes that wait for all clients.
    pub fn unsent(&self) -> UnsentBytes {
        self.places.unsent()
    }

    /// Counts the client as idle, and waits until it must be disconnected.
    pub async fn has_to_leave(&self) {
        let _idle = IdleTime::begin(self);
        self.leave.notified().await;
    }

    /// Refuses what takes long, if the place is only for short questions.
    ///
    /// # Errors
    /// It is.
    pub fn check_long(&self) -> Result<(), NoPlace> {
        match self.is_brief {
            true => Err(NoPlace::InAll(self.places.0.limits.all)),
            false => Ok(()),
        }
    }
}

/// A time in which a client has asked for nothing.
struct IdleTime<'a>(&'a ClientPlace);

impl<'a> IdleTime<'a> {
    fn begin(place: &'a ClientPlace) -> Self {
        let mut table = place.places.table();
        let since = table.idle_next;
        table.idle_next += 1;
        if let Some(client) = table.clients.get_mut(&place.number) {
            client.idle_since = Some(since);
        }
        Self(place)
    }
}

impl Drop for IdleTime<'_> {
    fn drop(&mut self) {
        let mut table = self.0.places.table();
        if let Some(client) = table.clients.get_mut(&self.0.number) {
            client.idle_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const A: ClientUser = ClientUser::Uid(1000);
    const B: ClientUser = ClientUser::Uid(1001);

    fn places() -> ClientPlaces {
        let limits = PlaceLimits { all: 4, of_user: 2 };
        ClientPlaces::new(limits, DescriptorReserve::default())
    }

    #[test]
    fn a_user_cannot_take_every_place_and_an_operator_always_finds_one() {
        let places = places();
        let mut taken: Vec<_> = (0..2)
            .filter_map(|_| places.enter_as(A, false).ok())
            .collect();
        let refused = places.enter_as(A, false).expect_err("it has its places");
        assert_eq!(refused, NoPlace::OfUser(2));
        taken.extend((0..2).filter_map(|_| places.enter_as(B, false).ok()));
        let refused = places.enter_as(ClientUser::Tcp, false);
        assert_eq!(refused.expect_err("all are taken"), NoPlace::InAll(4));
        let operator = places.enter_as(A, true).expect("for short questions");
        assert!(operator.is_brief && operator.check_long().is_err());
        drop(taken.pop());
        drop(operator);
        let operator = places.enter_as(A, true).expect("one is free");
        assert!(!operator.is_brief && operator.check_long().is_ok());
    }

    #[test]
    fn the_client_that_is_idle_longest_makes_room_and_a_busy_one_never() {
        let places = places();
        let taken: Vec<_> = [A, A, B, B]
            .into_iter()
            .filter_map(|user| places.enter_as(user, false).ok())
            .collect();
        let mut context = Context::from_waker(Waker::noop());
        let mut second = pin!(taken[1].has_to_leave());
        let mut third = pin!(taken[2].has_to_leave());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        let _of_b = places
            .enter_as(B, false)
            .expect("an idle one of its own leaves");
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_ready());
        assert_eq!(places.make_room(2), 1, "one is leaving already");
        assert!(second.as_mut().poll(&mut context).is_ready());
        assert_eq!(places.make_room(5), 0, "the others are busy");
    }

    #[test]
    fn the_limits_follow_the_limit_of_open_files() {
        for (open_files, all, of_user) in [(0, 4, 2), (64, 12, 6), (1024, 732, 366)] {
            assert_eq!(PlaceLimits::of(open_files), PlaceLimits { all, of_user });
        }
        assert_eq!(PlaceLimits::of(u64::MAX / 4).all, 4096);
    }
}
