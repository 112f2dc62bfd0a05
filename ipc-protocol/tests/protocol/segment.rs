//! Tests that a sealed memfd and a named object both pass.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use ipc_protocol::segment::{Backing, Geometry, Segment, SegmentError, Slot, named, sealed};

const GEOMETRY: Geometry = Geometry {
    latents_bytes: 5000,
    preview_bytes: 300,
    picture_bytes: 12_288,
};
const SLOTS: [Slot; 5] = [
    Slot::Latents0,
    Slot::Latents1,
    Slot::Preview,
    Slot::Resume,
    Slot::Picture,
];
const BACKINGS: [Backing; 2] = [Backing::Sealed, Backing::Named];

/// Makes a unique label whose owner is alive for as long as `OWNER` keeps its value.
fn label() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-9-{next}", std::process::id())
}

fn path(label: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/imagepool-{label}"))
}

fn segment(backing: Backing) -> (Segment, String) {
    let label = label();
    let segment = Segment::create(backing, &label, GEOMETRY).expect("room for a few pages");
    (segment, label)
}

fn capacity(slot: Slot) -> u64 {
    match slot {
        Slot::Latents0 | Slot::Latents1 | Slot::Resume => GEOMETRY.latents_bytes,
        Slot::Preview => GEOMETRY.preview_bytes,
        Slot::Picture => GEOMETRY.picture_bytes,
    }
}

#[test]
fn full_slots_do_not_overlap() {
    for backing in BACKINGS {
        let (segment, _) = segment(backing);
        let content = |slot: Slot| vec![slot as u8 + 1; capacity(slot) as usize];
        for slot in SLOTS {
            segment.write(slot, &content(slot)).expect("as large as it");
        }
        for slot in SLOTS {
            let read = segment.read(slot, capacity(slot)).expect("as large as it");
            assert_eq!(read, content(slot), "{backing:?} {slot:?}");
        }
    }
}

#[test]
fn one_byte_over_the_capacity_of_a_slot_can_neither_be_written_nor_read() {
    for backing in BACKINGS {
        let (segment, _) = segment(backing);
        for slot in SLOTS {
            let over = capacity(slot) + 1;
            let written = segment.write(slot, &vec![0; over as usize]);
            assert!(matches!(written, Err(SegmentError::DoesNotFit { .. })));
            for bytes in [over, u64::MAX] {
                let read = segment.read(slot, bytes);
                assert!(matches!(read, Err(SegmentError::DoesNotFit { .. })));
            }
        }
    }
}

#[test]
fn bytes_written_through_one_handle_are_read_through_the_other() {
    for backing in BACKINGS {
        let (ours, _) = segment(backing);
        let handle = ours.handle().expect("a second descriptor");
        let theirs = Segment::from_handle(handle, GEOMETRY).expect("the announced size");
        theirs.write(Slot::Picture, b"pixels").expect("it fits");
        let read = ours.read(Slot::Picture, 6).expect("it fits");
        assert_eq!(read, b"pixels", "{backing:?}");
    }
}

#[test]
fn a_handle_of_another_size_is_refused() {
    for backing in BACKINGS {
        let (ours, _) = segment(backing);
        for picture_bytes in [1, GEOMETRY.picture_bytes + 4096] {
            let other = Geometry {
                picture_bytes,
                ..GEOMETRY
            };
            let handle = ours.handle().expect("a second descriptor");
            let error = Segment::from_handle(handle, other).expect_err("another size");
            assert!(matches!(error, SegmentError::WrongSize { .. }), "{error}");
        }
    }
}

#[test]
fn every_page_is_reserved_before_the_first_write() {
    use std::os::unix::fs::MetadataExt;
    for backing in BACKINGS {
        let (segment, _) = segment(backing);
        let file = File::from(segment.handle().expect("a second descriptor"));
        let found = file.metadata().expect("an open file");
        assert_eq!(found.len(), GEOMETRY.total_bytes());
        assert!(found.blocks() * 512 >= found.len(), "{backing:?}");
    }
}

/// A layout slightly larger than `room` in total, with slots that each fit: only a check of the total
/// refuses it at once.
fn geometry_over(room: u64) -> Geometry {
    Geometry {
        picture_bytes: room + 1,
        ..GEOMETRY
    }
}

#[test]
fn more_than_all_shared_memory_is_refused_at_once_and_leaves_no_name() {
    let shm = nix::sys::statvfs::statvfs("/dev/shm").expect("Linux has it");
    let all = shm.blocks() * shm.fragment_size();
    let label = label();
    let error = Segment::create(Backing::Named, &label, geometry_over(all)).expect_err("too much");
    assert!(matches!(error, SegmentError::NoRoom { .. }), "{error}");
    assert!(!path(&label).exists());
}

#[test]
fn a_memfd_over_the_size_limit_is_refused_before_memory_is_reserved() {
    for bytes in [sealed::BYTES_MAX, 1 << 62] {
        let error = Segment::create(Backing::Sealed, &label(), geometry_over(bytes))
            .expect_err("more than a segment may have");
        assert!(matches!(error, SegmentError::NoRoom { .. }), "{error}");
    }
}

#[test]
fn a_sealed_segment_can_neither_shrink_nor_grow() {
    let (segment, label) = segment(Backing::Sealed);
    let file = File::from(segment.handle().expect("a second descriptor"));
    for bytes in [0, GEOMETRY.total_bytes() - 1, GEOMETRY.total_bytes() + 1] {
        file.set_len(bytes).expect_err("it is sealed");
    }
    assert!(!path(&label).exists(), "a memfd has no name");
}

#[test]
fn reading_a_truncated_named_segment_is_an_error_and_not_a_crash() {
    let (segment, label) = segment(Backing::Named);
    let file = OpenOptions::new()
        .write(true)
        .open(path(&label))
        .expect("it still has its name");
    file.set_len(4096).expect("a named object is not sealed");
    let error = segment.read(Slot::Picture, 6).expect_err("cut off");
    assert!(matches!(error, SegmentError::Os { .. }), "{error}");
}

#[test]
fn a_named_segment_is_private_and_usable_after_its_name_is_removed() {
    use std::os::unix::fs::PermissionsExt;
    let (mut segment, label) = segment(Backing::Named);
    let found = fs::metadata(path(&label)).expect("it has a name");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    segment.unname();
    assert!(!path(&label).exists());
    segment
        .write(Slot::Resume, b"still there")
        .expect("it fits");
}

#[test]
fn dropping_a_segment_removes_its_name() {
    let (segment, label) = segment(Backing::Named);
    drop(segment);
    assert!(!path(&label).exists());
}

#[test]
fn a_name_in_use_is_refused_and_stays_with_its_owner() {
    let (_segment, label) = segment(Backing::Named);
    Segment::create(Backing::Named, &label, GEOMETRY).expect_err("the name is taken");
    assert!(path(&label).exists(), "the first owner keeps it");
}

#[test]
fn a_sweep_removes_only_segments_of_dead_owners() {
    let (dead, dead_label) = segment(Backing::Named);
    let (_alive, alive_label) = segment(Backing::Named);
    let handle: OwnedFd = dead.handle().expect("a second descriptor");
    std::mem::forget(dead); // As if the owner was killed: the name stays.
    // Only one generation of this owner counts as dead, so that segments of other tests stay.
    let dead_owner = dead_label
        .rsplit_once('-')
        .expect("three parts")
        .0
        .to_owned();
    let renamed = format!("{dead_owner}0-1");
    fs::rename(path(&dead_label), path(&renamed)).expect("ours");
    let swept = named::sweep(|owner| owner != format!("{dead_owner}0"));
    assert_eq!(swept, 1);
    assert!(!path(&renamed).exists());
    assert!(path(&alive_label).exists());
    Segment::from_handle(handle, GEOMETRY).expect("a handle outlives the name");
}
