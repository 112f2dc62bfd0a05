//! The wire bytes of every message are fixed, so that two builds that pass understand each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ipc_protocol::frame::{self, HEADER_BYTES, Header, Message};
use ipc_protocol::version::PROTOCOL;

use crate::samples;

const TABLE: &str = include_str!("golden.hex");

fn line<M: Message>(name: &str, message: &M) -> (String, String) {
    let bytes = frame::encode(message).expect("a sample fits its frame");
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes everything");
        hex
    });
    (name.to_owned(), hex)
}

fn lines<M: Message>(samples: &[(&str, M)]) -> Vec<(String, String)> {
    samples
        .iter()
        .map(|(name, message)| line(name, message))
        .collect()
}

#[test]
fn every_message_has_its_recorded_wire_bytes() {
    let now: Vec<_> = [
        lines(&samples::to_pool()),
        lines(&samples::from_pool()),
        lines(&samples::to_worker()),
        lines(&samples::from_worker()),
    ]
    .concat();
    let recorded: BTreeMap<&str, &str> = TABLE
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .collect();
    let same = now.len() == recorded.len()
        && now
            .iter()
            .all(|(name, hex)| recorded.get(name.as_str()) == Some(&hex.as_str()));
    let table: String = now.iter().fold(String::new(), |table, (name, hex)| {
        table + name + " = " + hex + "\n"
    });
    assert!(
        same,
        "the wire bytes changed: raise PROTOCOL (now {PROTOCOL}) and write this to golden.hex\n{table}"
    );
}

/// Checks that the samples have all existing kinds, and no other.
fn assert_complete<M: Message>(samples: &[(&str, M)]) {
    let sampled: BTreeSet<u16> = samples.iter().map(|(_, message)| message.kind()).collect();
    let existing: BTreeSet<u16> = (0..=u16::MAX)
        .filter(|kind| M::cap(*kind).is_some())
        .collect();
    assert_eq!(sampled, existing);
}

#[test]
fn the_samples_contain_every_kind_of_message() {
    assert_complete(&samples::to_pool());
    assert_complete(&samples::from_pool());
    assert_complete(&samples::to_worker());
    assert_complete(&samples::from_worker());
}

fn assert_round_trips<M: Message + PartialEq + std::fmt::Debug>(samples: &[(&str, M)]) {
    for (name, message) in samples {
        let bytes = frame::encode(message).expect("a sample fits its frame");
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
        let header = Header::parse::<M>(header).expect("a header of ours");
        assert_eq!(header.length, body.len(), "{name}");
        let back: M = header.decode(body).expect("a body of ours");
        assert_eq!(&back, message, "{name}");
    }
}

#[test]
fn every_message_decodes_to_the_encoded_value() {
    assert_round_trips(&samples::to_pool());
    assert_round_trips(&samples::from_pool());
    assert_round_trips(&samples::to_worker());
    assert_round_trips(&samples::from_worker());
}
