//! The table of cards in GPU.md, computed from the need of the published models.

use ipc_protocol::arithmetic::{Arithmetic, Dtype, Encoders};
use worker::pipelines::cuda_need::CudaAlternative;
use worker::pipelines::families;

/// Memory of the cards of the table, in GB of 1024 MB.
const CARDS: [u64; 6] = [8, 12, 16, 24, 48, 80];

/// Side of the pictures.
const SIDE: u32 = 1024;

fn row(model: &str, card: u64, ways: &[CudaAlternative]) -> String {
    let limit = card * 1024;
    let need = |way: &CudaAlternative| way.device_at(SIDE, SIDE);
    let least = ways.last().map_or(0, need);
    let placed = match ways.iter().find(|way| need(way) <= limit) {
        Some(way) => {
            let encoders = match way.encoders {
                "keep" => "on the device",
                "drop" => "loaded for each new prompt",
                _ => "on the host",
            };
            let (resident, all) = (way.device_mb, need(way));
            format!(
                "{encoders} | {} | {resident} + {} = {all} | {}",
                way.decoding,
                all - resident,
                limit - all
            )
        }
        None => format!("does not fit | | {least} | −{}", least - limit),
    };
    format!("| {model} | {card} GB | {placed} |")
}

fn table() -> Vec<String> {
    let mut rows = Vec::new();
    for family in families::TABLE {
        let published = family.published().expect("valid sizes");
        let (_, basis) = published.expect("a published model");
        let wished = Arithmetic {
            dtype: Dtype::Auto,
            encoders: Encoders::Keep,
        };
        let ways = basis.on_cuda(0, wished);
        let model = family.layout().model;
        rows.extend(CARDS.iter().map(|card| row(model, *card, &ways)));
    }
    rows
}

#[test]
fn the_table_of_cards_is_the_computed_one() {
    let page = include_str!("../GPU.md");
    let missing = |row: &&String| !page.lines().any(|line| line == row.as_str());
    let missing: Vec<String> = table().iter().filter(missing).cloned().collect();
    assert!(
        missing.is_empty(),
        "these rows of GPU.md changed:\n{}",
        table().join("\n")
    );
}
