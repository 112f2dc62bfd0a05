//! Every function that reads foreign bytes, by name.
//!
//! `main.rs` gives them damaged inputs without end, `harmless.rs` also those inputs that once did harm, and `tests/fuzz/` inputs that
//! a fuzzer chooses by the branches they reach.

pub mod corpus;
pub mod damage;
pub mod listing;
pub mod measure;
pub mod seeds;

use std::hint::black_box;
use std::io::Cursor;
use std::sync::LazyLock;

use ipc_protocol::connection;
use ipc_protocol::frame::{BODY_BYTES_MAX, Message};
use ipc_protocol::messages::client::{FromPool, ToPool};
use ipc_protocol::messages::worker::{FromWorker, ToWorker};
use store::event::FetchEvent;
use supervisor::api::http::bodies::BodyRules;
use supervisor::catalogue::manifest;
use supervisor::obituaries::folder as obituary;
use supervisor::picture::decode as picture;
use supervisor::picture::receipt::Receipt;
use supervisor::record::beginning::Beginning;
use supervisor::{config, record};
use worker::pipelines::architecture::Architecture;
use worker::pipelines::families::flux::Flux;
use worker::pipelines::families::sd3::Sd3;
use worker::pipelines::folder::configuration;
use worker::pipelines::parts::tokens::Tokens;
use worker::weights;

/// A function that reads foreign bytes.
pub struct ByteDecoder {
    /// Name of the decoder, and of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads the bytes; tells whether they were accepted. It must not panic.
    pub read: fn(&[u8]) -> bool,
    /// Valid inputs, from which damaged ones are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// The most memory in bytes that reading this many bytes may allocate.
    pub memory_max: fn(usize) -> usize,
}

/// Memory for an error's sentence, and for the first block of a growing buffer.
const SMALL: usize = 16 << 10;
/// A picture of at most 4096 x 4096 pixels with 16 bits a channel and four channels, and as 8-bit RGB.
const PICTURE: usize = 4096 * 4096 * (8 + 3) + (8 << 20);

/// Memory for a decoded frame: its body, and the value of at most the same size.
fn of_frame(_: usize) -> usize {
    2 * BODY_BYTES_MAX + SMALL
}

/// Memory for parsed text. A byte of JSON can become a value of 32 bytes in a vector that has just doubled, and a
/// table of TOML is kept with the places of its keys.
fn of_text(length: usize) -> usize {
    192 * length + SMALL
}

/// Memory for settings: the parser keeps an error for each sign that is out of place.
fn of_settings(length: usize) -> usize {
    512 * length + 4 * SMALL
}

fn of_picture(length: usize) -> usize {
    PICTURE + 4 * length
}

/// A tokenizer allocates tables of its own, however small its file is.
fn of_tokenizer(length: usize) -> usize {
    512 * length + (1 << 20)
}

/// All decoders.
pub const ALL: [ByteDecoder; 18] = [
    decoder(
        "frames-to-pool",
        frame::<ToPool>,
        seeds::frames_to_pool,
        of_frame,
    ),
    decoder(
        "frames-from-pool",
        frame::<FromPool>,
        seeds::frames_from_pool,
        of_frame,
    ),
    decoder(
        "frames-to-worker",
        frame::<ToWorker>,
        seeds::frames_to_worker,
        of_frame,
    ),
    decoder(
        "frames-from-worker",
        frame::<FromWorker>,
        seeds::frames_from_worker,
        of_frame,
    ),
    decoder("weights", weight_header, seeds::weights, of_text),
    decoder("gguf", weight_header, seeds::ggufs, of_text),
    decoder("picture", picture_file, seeds::pictures, of_picture),
    decoder("receipt", receipt, seeds::receipts, of_text),
    decoder("settings", settings, seeds::settings, of_settings),
    decoder(
        "configuration",
        model_configuration,
        seeds::configurations,
        of_text,
    ),
    decoder("tokenizer", tokenizer, seeds::tokenizers, of_tokenizer),
    decoder("manifest", inspected, seeds::manifests, of_text),
    decoder("hub-listing", hub_listing, seeds::hub_listings, of_text),
    decoder("fetch-event", fetch_event, seeds::fetch_events, of_text),
    decoder("record", record_line, seeds::record_lines, of_text),
    decoder("obituary", obituary_file, seeds::obituaries, of_text),
    decoder("http-images", image_body, seeds::image_bodies, of_text),
    decoder("http-txt2img", txt2img_body, seeds::txt2img_bodies, of_text),
];

const fn decoder(
    name: &'static str,
    read: fn(&[u8]) -> bool,
    seeds: fn() -> Vec<Vec<u8>>,
    memory_max: fn(usize) -> usize,
) -> ByteDecoder {
    ByteDecoder {
        name,
        read,
        seeds,
        memory_max,
    }
}

/// The decoder of this name.
pub fn find(name: &str) -> Option<&'static ByteDecoder> {
    const { &ALL }.iter().find(|decoder| decoder.name == name)
}

fn frame<M: Message>(bytes: &[u8]) -> bool {
    connection::read::<M>(&mut Cursor::new(bytes))
        .map(black_box)
        .is_ok()
}

fn weight_header(bytes: &[u8]) -> bool {
    weights::count_tensors("weights", bytes)
        .map(black_box)
        .is_ok()
}

fn picture_file(bytes: &[u8]) -> bool {
    picture::decode(bytes.to_vec()).map(black_box).is_ok()
}

fn receipt(bytes: &[u8]) -> bool {
    let receipt = Receipt::parse(&text(bytes));
    receipt
        .and_then(|receipt| receipt.request())
        .map(black_box)
        .is_ok()
}

fn settings(bytes: &[u8]) -> bool {
    config::parse(&text(bytes)).map(black_box).is_ok()
}

/// Reads the bytes as both files that can describe a model of both families.
fn model_configuration(bytes: &[u8]) -> bool {
    let of_flux = || Flux::published();
    let of_sd3 = || Sd3::published();
    let read = [
        configuration::from_config("f", bytes, of_flux()).is_ok(),
        configuration::from_meta("f", bytes, of_flux()).is_ok(),
        configuration::from_config("f", bytes, of_sd3()).is_ok(),
        configuration::from_meta("f", bytes, of_sd3()).is_ok(),
    ];
    black_box(read).contains(&true)
}

fn tokenizer(bytes: &[u8]) -> bool {
    let Ok(tokens) = Tokens::new("f", bytes, 16, 0) else {
        return false;
    };
    tokens.encode("a red fox, 2 cats").map(black_box).is_ok()
}

fn inspected(bytes: &[u8]) -> bool {
    manifest::read_manifest(&text(bytes)).map(black_box).is_ok()
}

fn hub_listing(bytes: &[u8]) -> bool {
    let mut entries = Vec::new();
    listing::append(&mut entries, bytes).is_ok() && !black_box(entries).is_empty()
}

fn fetch_event(bytes: &[u8]) -> bool {
    FetchEvent::read(&text(bytes)).map(black_box).is_ok()
}

fn record_line(bytes: &[u8]) -> bool {
    record::read::event(&text(bytes)).map(black_box).is_ok()
}

fn obituary_file(bytes: &[u8]) -> bool {
    obituary::parse(bytes).map(black_box).is_ok()
}

/// The rules of a daemon without settings, with the models of a recorded one.
fn bodies() -> &'static BodyRules {
    static READER: LazyLock<BodyRules> = LazyLock::new(|| {
        let config = config::parse("").expect("every setting has a default");
        let beginning = include_str!("beginning.json").trim_end();
        let beginning = Beginning::read(beginning).expect("a daemon wrote it");
        BodyRules::new(&config, beginning.registry)
    });
    &READER
}

fn image_body(bytes: &[u8]) -> bool {
    black_box(bodies().is_image_order(bytes))
}

fn txt2img_body(bytes: &[u8]) -> bool {
    black_box(bodies().is_txt2img(bytes))
}

/// The text that the programs parse instead of bytes that are not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
