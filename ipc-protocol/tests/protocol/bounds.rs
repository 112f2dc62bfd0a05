//! Bytes that are not a frame, from a reader that counts how far it was read.

use std::io::{self, Cursor, Read};

use ipc_protocol::codec::CodecError;
use ipc_protocol::connection::{self, ConnectionError};
use ipc_protocol::frame::{self, BODY_BYTES_MAX, FrameError, HEADER_BYTES, Message};
use ipc_protocol::messages::client::{FromPool, ToPool, Told};
use ipc_protocol::messages::worker::{FromWorker, ToWorker};

use crate::samples;

/// A reader that returns a header, and fails the test at any further read.
struct HeaderOnly(Cursor<Vec<u8>>);

impl Read for HeaderOnly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => panic!("the body of a frame that is too long was read"),
            some => Ok(some),
        }
    }
}

fn header(magic: &[u8; 4], kind: u16, reserved: [u8; 2], length: u32) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(reserved);
    bytes.extend(length.to_le_bytes());
    bytes
}

fn read_header<M: Message>(bytes: Vec<u8>) -> Result<M, ConnectionError> {
    connection::read(&mut HeaderOnly(Cursor::new(bytes)))
}

fn assert_caps_hold<M: Message + std::fmt::Debug>() {
    for kind in 0..=u16::MAX {
        let Some(cap) = M::cap(kind) else { continue };
        assert!(cap <= BODY_BYTES_MAX, "kind {kind} may have {cap} bytes");
        for length in [cap as u32 + 1, u32::MAX] {
            let error = read_header::<M>(header(b"IMGP", kind, [0, 0], length))
                .expect_err("longer than its kind may be");
            assert!(
                matches!(error, ConnectionError::Frame(FrameError::TooLong { .. })),
                "kind {kind}, {length} bytes: {error}"
            );
        }
    }
}

#[test]
fn a_length_over_the_cap_is_refused_before_the_body_is_read() {
    assert_caps_hold::<ToPool>();
    assert_caps_hold::<FromPool>();
    assert_caps_hold::<ToWorker>();
    assert_caps_hold::<FromWorker>();
}

#[test]
fn a_message_over_its_cap_is_not_sent() {
    let lines = vec!["x".repeat(1000); 70];
    let error = frame::encode(&FromPool::Told(Told {
        lines,
        success: true,
        more: false,
    }))
    .expect_err("70 kB");
    assert!(matches!(
        error,
        FrameError::TooLong { .. } | FrameError::Codec(_)
    ));
    let message = "x".repeat(5000);
    let error = frame::encode(&FromWorker::GivingUp { message }).expect_err("over 4 KiB");
    assert!(matches!(error, FrameError::TooLong { cap: 4096, .. }));
}

#[test]
fn a_long_listing_is_sent_in_several_frames_without_losing_a_line() {
    let line = |nth: usize| format!("{nth} {}", "x".repeat(nth % 700));
    let lines: Vec<String> = (0..1000).map(line).chain([String::new()]).collect();
    let told = Told {
        lines: lines.clone(),
        success: false,
        more: false,
    };
    let parts = told.into_parts();
    assert!(parts.len() > 1);
    for part in &parts {
        frame::encode(&FromPool::Told(part.clone())).expect("each fits its frame");
        assert!(!part.success);
    }
    let last = parts.iter().map(|part| !part.more);
    assert!(last.eq((1..=parts.len()).map(|nth| nth == parts.len())));
    let joined: Vec<String> = parts.into_iter().flat_map(|part| part.lines).collect();
    assert_eq!(joined, lines);
}

#[test]
fn a_line_longer_than_a_frame_is_cut_between_characters() {
    let told = Told {
        lines: vec!["ä".repeat(100_000)],
        success: true,
        more: false,
    };
    let parts = told.into_parts();
    let bytes: Vec<_> = parts
        .into_iter()
        .map(|part| frame::encode(&FromPool::Told(part)).expect("it fits").len())
        .collect();
    assert!(bytes.iter().all(|&bytes| bytes <= 64 * 1024));
}

#[test]
fn bytes_that_do_not_begin_like_a_frame_are_refused() {
    let refused = |bytes| read_header::<ToPool>(bytes).expect_err("not a frame");
    assert!(matches!(
        refused(header(b"HTTP", 1, [0, 0], 1)),
        ConnectionError::Frame(FrameError::Magic(_))
    ));
    assert!(matches!(
        refused(header(b"IMGP", 1, [0, 7], 1)),
        ConnectionError::Frame(FrameError::Reserved)
    ));
    assert!(matches!(
        refused(header(b"IMGP", 999, [0, 0], 1)),
        ConnectionError::Frame(FrameError::Kind(999))
    ));
}

#[test]
fn a_message_from_the_wrong_side_is_refused() {
    let told = FromPool::Told(Told {
        lines: Vec::new(),
        success: true,
        more: false,
    });
    let bytes = frame::encode(&told).expect("an empty list");
    let error = connection::read::<ToPool>(&mut bytes.as_slice()).expect_err("a client's kind");
    assert!(matches!(
        error,
        ConnectionError::Frame(FrameError::Kind(11))
    ));
}

#[test]
fn a_header_and_a_body_of_two_kinds_are_refused() {
    let mut bytes = frame::encode(&ToWorker::Leave).expect("a word");
    bytes[4] = 3; // The header says Cancel, the body is Leave.
    let error = connection::read::<ToWorker>(&mut bytes.as_slice()).expect_err("two kinds");
    assert!(
        matches!(
            error,
            ConnectionError::Frame(FrameError::KindMismatch { header: 3, body: 4 })
        ),
        "{error}"
    );
}

#[test]
fn bytes_after_a_message_are_refused() {
    let mut bytes = frame::encode(&ToWorker::Leave).expect("a word");
    bytes[8] += 1;
    bytes.push(0);
    let error = connection::read::<ToWorker>(&mut bytes.as_slice()).expect_err("one byte more");
    assert!(matches!(
        error,
        ConnectionError::Frame(FrameError::Codec(CodecError::TrailingBytes(1)))
    ));
}

fn assert_no_cut_is_read<M: Message + std::fmt::Debug>(samples: &[(&str, M)]) {
    for (name, message) in samples {
        let bytes = frame::encode(message).expect("a sample fits its frame");
        for kept in 1..bytes.len() {
            let error = connection::read::<M>(&mut &bytes[..kept]).expect_err("cut short");
            assert!(
                matches!(error, ConnectionError::Io(_)),
                "{name} cut to {kept}"
            );
        }
        // The same cut with a matching length in the header: the body itself is short.
        for kept in HEADER_BYTES..bytes.len() {
            let mut cut = bytes[..kept].to_vec();
            cut[8..12].copy_from_slice(&((kept - HEADER_BYTES) as u32).to_le_bytes());
            let error = connection::read::<M>(&mut cut.as_slice()).expect_err("a short body");
            assert!(
                matches!(error, ConnectionError::Frame(FrameError::Codec(_))),
                "{name} with a body of {} bytes: {error}",
                kept - HEADER_BYTES
            );
        }
    }
}

#[test]
fn a_frame_cut_at_any_byte_is_an_error() {
    assert_no_cut_is_read(&samples::to_pool());
    assert_no_cut_is_read(&samples::from_pool());
    assert_no_cut_is_read(&samples::to_worker());
    assert_no_cut_is_read(&samples::from_worker());
}

#[test]
fn an_end_between_frames_and_an_end_within_one_are_different_errors() {
    let error = connection::read::<ToPool>(&mut io::empty()).expect_err("nothing there");
    assert!(matches!(error, ConnectionError::Closed));
    let error = connection::read::<ToPool>(&mut b"IMG".as_slice()).expect_err("half a header");
    assert!(matches!(error, ConnectionError::Io(_)));
}
