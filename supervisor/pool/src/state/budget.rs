//! The memory budget: what each device may promise, and what it has promised.
//!
//! A promise is a [`Reservation`]. It cannot be copied, only joined with another or given back. A worker's
//! reservation is given back when the kernel reports that its process has exited.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::status::MemoryStatus;
use ipc_protocol::units::Mebibytes;

use crate::words::moment::Moment;

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

#[derive(Debug)]
struct Book {
    limit: Mebibytes,
    reserved: Mebibytes,
    confirms: bool,
    settling: BTreeMap<Generation, (Mebibytes, Moment)>,
    unreclaimed: BTreeMap<Generation, Mebibytes>,
    measured: Option<Mebibytes>,
    foreign: Option<Mebibytes>,
    total: Option<Mebibytes>,
    lost: bool,
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
        self.books.get(&device).is_some_and(|book| !book.lost)
    }

    pub(crate) fn limit(&self, device: Device) -> Mebibytes {
        self.book(device).map_or(Mebibytes::ZERO, |book| book.limit)
    }

    pub(crate) fn reserved(&self, device: Device) -> Mebibytes {
        self.book(device)
            .map_or(Mebibytes::ZERO, |book| book.reserved)
    }

    /// Given back by processes that are gone, not yet confirmed, and not given up.
    pub(crate) fn settling(&self, device: Device) -> Mebibytes {
        self.book(device).map_or(Mebibytes::ZERO, Book::settling)
    }

    /// Returns the memory that can be reserved on `device` now.
    pub(crate) fn free(&self, device: Device) -> Mebibytes {
        match self.book(device) {
            Some(book) if !book.lost => book.free(),
            Some(_) | None => Mebibytes::ZERO,
        }
    }

    pub(crate) fn has_room(&self, amount: Amount) -> bool {
        amount.parts().all(|(at, part)| part <= self.free(at))
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

    /// The driver confirmed that `worker`'s memory is free.
    pub(crate) fn confirm(&mut self, worker: Generation) {
        for book in self.books.values_mut() {
            book.settling.remove(&worker);
            book.unreclaimed.remove(&worker);
        }
    }

    /// When the next settling memory counts as unreclaimed.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let settling = self.books.values().flat_map(|book| book.settling.values());
        settling.map(|&(_, until)| until).min()
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

    pub(crate) fn measure(
        &mut self,
        device: Device,
        total: Option<Mebibytes>,
        measured: Mebibytes,
        foreign: Mebibytes,
    ) {
        if let Some(book) = self.books.get_mut(&device) {
            (book.total, book.measured, book.foreign) = (total, Some(measured), Some(foreign));
            book.lost = false;
        }
    }

    /// The device is gone: nothing is placed there until it is measured again.
    pub(crate) fn lose(&mut self, device: Device) {
        if device != Device::Host
            && let Some(book) = self.books.get_mut(&device)
        {
            book.lost = true;
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

impl Book {
    fn new(limit: Mebibytes, confirms: bool) -> Self {
        Self {
            limit,
            reserved: Mebibytes::ZERO,
            confirms,
            settling: BTreeMap::new(),
            unreclaimed: BTreeMap::new(),
            measured: None,
            foreign: None,
            total: None,
            lost: false,
        }
    }

    fn settling(&self) -> Mebibytes {
        self.settling.values().map(|&(part, _)| part).sum()
    }

    fn unreclaimed(&self) -> Mebibytes {
        self.unreclaimed.values().copied().sum()
    }

    fn free(&self) -> Mebibytes {
        let promised = self.reserved + self.settling() + self.unreclaimed();
        let ours = self.limit.saturating_sub(promised);
        match (self.total, self.foreign) {
            (Some(total), Some(foreign)) => {
                ours.min(total.saturating_sub(foreign).saturating_sub(promised))
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => ours,
        }
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
        budget.confirm(Generation(1));
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
}
