//! A request is checked before it is sent, so that every request that passes fits a frame.

use ipc_protocol::failure::{FailureKind, Field};
use ipc_protocol::frame;
use ipc_protocol::messages::client::ToPool;
use ipc_protocol::request::{COUNT_MAX, ImageRequest, TEXT_BYTES_MAX};

fn refused(request: &ImageRequest) -> Option<Field> {
    let failure = request.check().expect_err("cannot be sent");
    assert_eq!(failure.kind, FailureKind::BadValue);
    failure.field
}

#[test]
fn the_longest_text_that_passes_fits_a_frame() {
    let request = ImageRequest {
        negative: Some("n".repeat(TEXT_BYTES_MAX / 2)),
        model: Some("m".repeat(64)),
        user: Some("u".repeat(64)),
        ..ImageRequest::new("p".repeat(TEXT_BYTES_MAX / 2))
    };
    request.check().expect("at the limit");
    frame::encode(&ToPool::Generate(request)).expect("it fits");
}

#[test]
fn a_refused_request_names_the_field_at_fault() {
    let plain = || ImageRequest::new("a red circle");
    let long = ImageRequest::new("x".repeat(100_000));
    assert_eq!(refused(&long), Some(Field::Prompt));
    for count in [0, COUNT_MAX + 1, u32::MAX] {
        assert_eq!(
            refused(&ImageRequest { count, ..plain() }),
            Some(Field::Count)
        );
    }
    for guidance in [f32::NAN, f32::INFINITY] {
        let guidance = Some(guidance);
        assert_eq!(
            refused(&ImageRequest {
                guidance,
                ..plain()
            }),
            Some(Field::Guidance)
        );
    }
}
