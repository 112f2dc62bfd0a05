//! The memory budget: what each device may promise, and what it has promised.
//!
//! A promise is a [`Reservation`]. It cannot be copied, only joined with another or given back. A worker's
//! reservation is given back when the kernel reports that its process has exited.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::status::{DeviceState, MemoryStatus};
use ipc_protocol::units::Mebibytes;

use crate::state::book::{Book, DeviceRest, Sight};
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// A device and the memory that may be promised on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// The device.
    pub device: Device,
    /// Most that may be promised.
    pub limit: Mebibytes,
    /// Memory of a dead worker counts as settling until `MemoryReturned` arrives.
    pub confirms: bool,
}

/// Why nothing new is placed on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceObstacle {
    /// Its state.
    pub state: DeviceState,
    /// A sentence that names the device.
    pub reason: String,
}

/// Memory of the host and of at most one accelerator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    host: Mebibytes,
    device: Option<(Device, Mebibytes)>,
}

/// An amount promised to one worker.
#[derive(Debug)]
#[must_use = "a reservation that is not given back is memory lost until the next start"]
pub(crate) struct Reservation {
    amount: Amount,
}

/// The books of all devices.
#[derive(Debug)]
pub(crate) struct Budget {
    books: BTreeMap<Device, Book>,
}

impl Amount {
    /// `host` of the host's memory and `device` of the memory where work runs on `at`.
    pub(crate) fn on(at: Device, host: Mebibytes, device: Mebibytes) -> Self {
        match at {
            Device::Host => Self {
                host: host + device,
                device: None,
            },
            Device::Cuda(_) => Self {
                host,
                device: Some((at, device)),
            },
        }
    }

    /// The host's part.
    pub(crate) fn host(self) -> Mebibytes {
        self.host
    }

    pub(crate) fn parts(self) -> impl Iterator<Item = (Device, Mebibytes)> {
        [(Device::Host, self.host)].into_iter().chain(self.device)
    }

    pub(crate) fn total(self) -> Mebibytes {
        self.parts().map(|(_, part)| part).sum()
    }

    /// The part on `device`.
    pub(crate) fn at(self, device: Device) -> Mebibytes {
        let here = |(at, part)| if at == device { part } else { Mebibytes::ZERO };
        self.parts().map(here).sum()
    }

    /// The parts of `self` that go beyond `other`; both for the same accelerator.
    pub(crate) fn beyond(self, other: Self) -> Self {
        let device = self
            .device
            .map(|(at, part)| (at, part.saturating_sub(other.at(at))));
        Self {
            host: self.host.saturating_sub(other.host),
            device,
        }
    }

    /// Every part, raised by `percent` of itself.
    pub(crate) fn raised(self, percent: u64) -> Self {
        let raised = |part: Mebibytes| Mebibytes(part.0 + part.0 * percent / 100);
        Self {
            host: raised(self.host),
            device: self.device.map(|(at, part)| (at, raised(part))),
        }
    }

    /// The larger of each part; both for the same accelerator.
    pub(crate) fn max(self, other: Self) -> Self {
        let device = self.device.map(|(at, part)| {
            (
                at,
                part.max(other.device.map_or(Mebibytes::ZERO, |(_, other)| other)),
            )
        });
        Self {
            host: self.host.max(other.host),
            device,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let device = match (self.device, other.device) {
            (Some((at, one)), Some((_, two))) => Some((at, one + two)),
            (one, two) => one.or(two),
        };
        Self {
            host: self.host + other.host,
            device,
        }
    }
}

impl Reservation {
    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    /// Adds `other` to this promise; both are for the same worker.
    pub(crate) fn join(&mut self, other: Self) {
        self.amount = self.amount.plus(other.amount);
    }

    /// This promise and `other` as one; both are for the same worker.
    pub(crate) fn joined(self, other: Option<Self>) -> Self {
        let more = other.map(|other| other.amount).unwrap_or_default();
        Self {
            amount: self.amount.plus(more),
        }
    }
}

impl Budget {
    pub(crate) fn new(devices: Vec<DeviceLimit>) -> Self {
        let book = |entry: DeviceLimit| (entry.device, Book::new(entry.limit, entry.confirms));
        Self {
            books: devices.into_iter().map(book).collect(),
        }
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = Device> {
        self.books.keys().copied()
    }

    pub(crate) fn usable(&self, device: Device) -> bool {
        self.books
            .get(&device)
            .is_some_and(|book| match book.sight {
                Sight::Current | Sight::Aged => true,
                Sight::Lost(_) => false,
            })
    }

    pub(crate) fn limit(&self, device: Device) -> Mebibytes {
        self.book(device).map_or(Mebibytes::ZERO, |book| book.limit)
    }

    /// Given back by processes that are gone, not yet confirmed, and not given up.
    pub(crate) fn settling(&self, device: Device) -> Mebibytes {
        self.book(device).map_or(Mebibytes::ZERO, Book::settling)
    }

    /// Returns the memory that can be reserved on `device` now.
    pub(crate) fn free(&self, device: Device) -> Mebibytes {
        match self.book(device) {
            Some(book) if book.sight == Sight::Current && book.rest.is_none() => book.free(),
            Some(_) | None => Mebibytes::ZERO,
        }
    }

    /// Returns the memory that is free on `device` as far as is known, if it waits for a measurement or rests.
    pub(crate) fn withheld(&self, device: Device) -> Mebibytes {
        match self.book(device) {
            Some(book) if self.usable(device) => book.free() - self.free(device),
            Some(_) | None => Mebibytes::ZERO,
        }
    }

    /// Why nothing new is placed on `device` now; `None` if it is.
    pub(crate) fn obstacle(&self, device: Device, now: Moment) -> Option<DeviceObstacle> {
        let book = self.book(device)?;
        let (state, reason) = match (&book.sight, &book.rest) {
            (Sight::Lost(why), _) => (DeviceState::Lost, format!("{device} is lost: {why}")),
            (_, Some(rest)) => {
                let left = rest.until.since(now).as_secs();
                let reason = format!("{device} rests for {left} s: {}", rest.why);
                (DeviceState::Resting, reason)
            }
            (Sight::Aged, None) => {
                let reason = format!("{device} is measured before more is placed there");
                (DeviceState::Unmeasured, reason)
            }
            (Sight::Current, None) => return None,
        };
        Some(DeviceObstacle { state, reason })
    }

    /// Returns the part of the limit of `device` that other programs hold.
    pub(crate) fn squeezed(&self, device: Device) -> Mebibytes {
        let book = self.book(device).filter(|_| self.usable(device));
        book.map_or(Mebibytes::ZERO, |book| {
            book.limit.saturating_sub(book.ceiling())
        })
    }

    /// Whether no memory of a dead worker is still to be confirmed as free there.
    pub(crate) fn is_settled(&self, device: Device) -> bool {
        self.book(device)
            .is_none_or(|book| book.settling.is_empty())
    }

    /// Returns the memory on `device` for workers that are to start, at best: without what is promised, what others
    /// hold, and what was not returned in time.
    pub(crate) fn available(&self, device: Device) -> Mebibytes {
        self.book(device).map_or(Mebibytes::ZERO, |book| {
            let taken = book.reserved + book.unreclaimed();
            book.ceiling().saturating_sub(taken)
        })
    }

    pub(crate) fn has_room(&self, amount: Amount) -> bool {
        amount.parts().all(|(at, part)| part <= self.free(at))
    }

    /// Whether `more` than is promised on `device` is beyond its limit, without what dead workers are about to return.
    pub(crate) fn passes_limit(&self, device: Device, more: Mebibytes) -> bool {
        let taken = |book: &Book| book.reserved + book.unreclaimed() + more;
        let book = self.book(device);
        more > Mebibytes::ZERO && book.is_some_and(|book| taken(book) > book.limit)
    }

    /// Promises of `amount` what is free, on each device it touches.
    pub(crate) fn promise_free(&mut self, amount: Amount) -> Reservation {
        let part = |at: Device| amount.at(at).min(self.free(at));
        let amount = Amount {
            host: part(Device::Host),
            device: amount.device.map(|(at, _)| (at, part(at))),
        };
        for (at, part) in amount.parts() {
            if let Some(book) = self.books.get_mut(&at) {
                book.reserved += part;
            }
        }
        Reservation { amount }
    }

    /// Promises `amount`, on every device it touches or on none.
    pub(crate) fn promise(&mut self, amount: Amount) -> Option<Reservation> {
        if !self.has_room(amount) {
            return None;
        }
        for (at, part) in amount.parts() {
            if let Some(book) = self.books.get_mut(&at) {
                book.reserved += part;
            }
        }
        Some(Reservation { amount })
    }

    /// Takes back a promise whose memory is free again.
    pub(crate) fn give_back(&mut self, reservation: Reservation) {
        for (at, part) in reservation.amount.parts() {
            if let Some(book) = self.books.get_mut(&at) {
                book.reserved = book.reserved - part;
            }
        }
    }

    /// Takes back the promise to a process that was reaped. If the device's driver confirms frees, the device's
    /// part settles until it does, at most until `until`.
    pub(crate) fn give_back_reaped(
        &mut self,
        reservation: Reservation,
        worker: Generation,
        until: Moment,
    ) {
        let device = reservation.amount.device;
        self.give_back(reservation);
        if let Some((at, part)) = device
            && let Some(book) = self.books.get_mut(&at)
            && book.confirms
            && part > Mebibytes::ZERO
        {
            book.settling.insert(worker, (part, until));
        }
    }

    /// The driver confirmed that `worker`'s memory is free, except the part that is `left`.
    pub(crate) fn confirm(&mut self, worker: Generation, left: Mebibytes) {
        for book in self.books.values_mut() {
            if let Some((part, _)) = book.settling.get_mut(&worker) {
                *part = left.min(*part);
            }
            if let Some(part) = book.unreclaimed.get_mut(&worker) {
                *part = left.min(*part);
            }
            book.settling.retain(|_, (part, _)| *part > Mebibytes::ZERO);
            book.unreclaimed.retain(|_, part| *part > Mebibytes::ZERO);
        }
    }

    /// When the next settling memory counts as unreclaimed, or the next device has rested.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let settling = self.books.values().flat_map(|book| book.settling.values());
        let rests = self.books.values().filter_map(|book| book.rest.as_ref());
        let rests = rests.map(|rest| rest.until);
        settling.map(|&(_, until)| until).chain(rests).min()
    }

    /// Extends the deadlines of settling memory by a time in which no confirmation could arrive.
    pub(crate) fn excuse(&mut self, lasted: Duration) {
        let settling = self.books.values_mut();
        for (_, until) in settling.flat_map(|book| book.settling.values_mut()) {
            *until = *until + lasted;
        }
    }

    /// Books memory that has not settled by `now` as unreclaimed, and lists it.
    pub(crate) fn give_up(&mut self, now: Moment) -> Vec<(Generation, Device, Mebibytes)> {
        let mut lost = Vec::new();
        for (&device, book) in &mut self.books {
            let late = |_: &Generation, entry: &mut (Mebibytes, Moment)| entry.1 <= now;
            for (worker, (part, _)) in book.settling.extract_if(.., late) {
                book.unreclaimed.insert(worker, part);
                lost.push((worker, device, part));
            }
        }
        lost
    }

    /// Takes a measurement. Returns whether the device had been lost.
    pub(crate) fn measure(
        &mut self,
        device: Device,
        total: Option<Mebibytes>,
        measured: Mebibytes,
        foreign: Mebibytes,
    ) -> bool {
        let Some(book) = self.books.get_mut(&device) else {
            return false;
        };
        (book.total, book.measured, book.foreign) = (total, Some(measured), Some(foreign));
        matches!(
            mem::replace(&mut book.sight, Sight::Current),
            Sight::Lost(_)
        )
    }

    /// The last measurement of a device is too old to promise from.
    pub(crate) fn age(&mut self, device: Device) {
        if let Some(book) = self.accelerator_mut(device)
            && book.sight == Sight::Current
        {
            book.sight = Sight::Aged;
        }
    }

    /// The device is gone: nothing is placed there until it is measured again. Returns whether that is news.
    pub(crate) fn lose(&mut self, device: Device, why: &str) -> bool {
        let Some(book) = self.accelerator_mut(device) else {
            return false;
        };
        let lost = Sight::Lost(why.to_owned());
        !matches!(mem::replace(&mut book.sight, lost), Sight::Lost(_))
    }

    /// A worker of `model` lost its context there. Returns the number of models that did since a job was last
    /// finished there.
    pub(crate) fn strike(&mut self, device: Device, model: ModelId) -> usize {
        self.accelerator_mut(device).map_or(0, |book| {
            book.struck.insert(model);
            book.struck.len()
        })
    }

    /// A worker finished a job there: the device works.
    pub(crate) fn note_success(&mut self, device: Device) {
        if let Some(book) = self.books.get_mut(&device) {
            book.struck.clear();
        }
    }

    /// Nothing new is placed on the device until then, for this reason. A rest that has begun is not made longer.
    /// Returns whether this one began.
    pub(crate) fn rest(&mut self, device: Device, until: Moment, why: String) -> bool {
        let resting = self.accelerator_mut(device).map(|book| &mut book.rest);
        let Some(rest @ None) = resting else {
            return false;
        };
        *rest = Some(DeviceRest { until, why });
        true
    }

    /// Ends the rests that are over by `now`, and lists the devices.
    pub(crate) fn end_rests(&mut self, now: Moment) -> Vec<Device> {
        let mut rested = Vec::new();
        for (&device, book) in &mut self.books {
            if book.rest.take_if(|rest| rest.until <= now).is_some() {
                rested.push(device);
            }
        }
        rested
    }

    fn accelerator_mut(&mut self, device: Device) -> Option<&mut Book> {
        match device {
            Device::Host => None,
            Device::Cuda(_) => self.books.get_mut(&device),
        }
    }

    pub(crate) fn total_reserved(&self) -> Mebibytes {
        self.books.values().map(|book| book.reserved).sum()
    }

    pub(crate) fn status(&self) -> Vec<MemoryStatus> {
        let line = |(device, book): (&Device, &Book)| MemoryStatus {
            device: device.to_string(),
            limit_mb: book.limit.0,
            reserved_mb: book.reserved.0,
            measured_mb: book.measured.map(|part| part.0),
            foreign_mb: book.foreign.map(|part| part.0),
            settling_mb: (book.settling() + book.unreclaimed()).0,
        };
        self.books.iter().map(line).collect()
    }

    fn book(&self, device: Device) -> Option<&Book> {
        self.books.get(&device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(vec![
            DeviceLimit {
                device: Device::Host,
                limit: Mebibytes(100),
                confirms: false,
            },
            DeviceLimit {
                device: Device::Cuda(0),
                limit: Mebibytes(50),
                confirms: true,
            },
        ])
    }

    #[test]
    fn a_promise_is_kept_on_every_device_or_made_on_none() {
        let mut budget = budget();
        let too_much = Amount::on(Device::Cuda(0), Mebibytes(10), Mebibytes(51));
        assert!(budget.promise(too_much).is_none());
        assert_eq!(budget.total_reserved(), Mebibytes::ZERO);
        let fits = Amount::on(Device::Cuda(0), Mebibytes(10), Mebibytes(50));
        let promise = budget.promise(fits).expect("there is room");
        assert_eq!(budget.free(Device::Host), Mebibytes(90));
        assert_eq!(budget.free(Device::Cuda(0)), Mebibytes(0));
        budget.give_back(promise);
        assert_eq!(budget.total_reserved(), Mebibytes::ZERO);
    }

    #[test]
    fn memory_of_a_dead_process_is_free_only_when_its_driver_says_so() {
        let mut budget = budget();
        let amount = Amount::on(Device::Cuda(0), Mebibytes(10), Mebibytes(50));
        let promise = budget.promise(amount).expect("there is room");
        budget.give_back_reaped(promise, Generation(1), Moment(5));
        assert_eq!(budget.free(Device::Host), Mebibytes(100));
        assert_eq!(budget.free(Device::Cuda(0)), Mebibytes(0));
        assert_eq!(budget.deadline(), Some(Moment(5)));
        assert_eq!(budget.give_up(Moment(5)).len(), 1);
        assert_eq!(budget.deadline(), None);
        assert_eq!(budget.free(Device::Cuda(0)), Mebibytes(0));
        budget.confirm(Generation(1), Mebibytes(20));
        assert_eq!(budget.free(Device::Cuda(0)), Mebibytes(30));
        budget.confirm(Generation(1), Mebibytes::ZERO);
        assert_eq!(budget.free(Device::Cuda(0)), Mebibytes(50));
    }

    #[test]
    fn a_thousand_promises_leave_the_books_at_zero() {
        let mut budget = budget();
        for round in 0..1000 {
            let amount = Amount::on(Device::Host, Mebibytes(round % 90), Mebibytes(7));
            let promise = budget.promise(amount).expect("there is room");
            budget.give_back(promise);
        }
        assert_eq!(budget.total_reserved(), Mebibytes::ZERO);
    }

    #[test]
    fn what_others_hold_counts_where_the_size_of_the_device_is_known() {
        let mut budget = budget();
        budget.measure(
            Device::Cuda(0),
            Some(Mebibytes(60)),
            Mebibytes(0),
            Mebibytes(40),
        );
        assert_eq!(budget.free(Device::Cuda(0)), Mebibytes(20));
    }

    #[test]
    fn a_device_without_a_current_measurement_promises_nothing() {
        let mut budget = budget();
        let cuda = Device::Cuda(0);
        let measure = |budget: &mut Budget| {
            let nothing = Mebibytes::ZERO;
            budget.measure(cuda, Some(Mebibytes(60)), nothing, nothing)
        };
        let seen = |budget: &Budget| (budget.free(cuda).0, budget.withheld(cuda).0);
        budget.age(cuda);
        assert_eq!(seen(&budget), (0, 50));
        assert!(budget.usable(cuda), "the measurement is on its way");
        assert!(!measure(&mut budget));
        assert_eq!(seen(&budget), (50, 0));
        assert!(budget.lose(cuda, "it fell off the bus"));
        assert!(!budget.lose(cuda, "told already"));
        assert!(!budget.usable(cuda));
        assert_eq!(seen(&budget), (0, 0));
        assert!(measure(&mut budget), "it is back");
        budget.age(Device::Host);
        assert!(!budget.lose(Device::Host, "never"));
        assert_eq!(budget.free(Device::Host), Mebibytes(100));
    }

    #[test]
    fn a_resting_device_promises_nothing_until_it_has_rested() {
        let mut budget = budget();
        let cuda = Device::Cuda(0);
        let [one, two] = [1, 2].map(ModelId::new);
        assert_eq!(budget.strike(cuda, one), 1);
        assert_eq!(budget.strike(cuda, one), 1, "one model is its own fault");
        assert_eq!(budget.strike(cuda, two), 2);
        assert!(budget.rest(cuda, Moment(9), "a and b".into()));
        assert!(!budget.rest(cuda, Moment(99), "a and b".into()));
        assert_eq!(budget.free(cuda), Mebibytes(0));
        assert_eq!(budget.deadline(), Some(Moment(9)));
        assert_eq!(budget.end_rests(Moment(8)), []);
        assert_eq!(budget.end_rests(Moment(9)), [cuda]);
        assert_eq!(budget.free(cuda), Mebibytes(50));
        budget.note_success(cuda);
        assert_eq!(budget.strike(cuda, one), 1);
    }
}
