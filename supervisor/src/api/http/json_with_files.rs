//! JSON answers with files in them as base64, which is written while the client takes it.
//!
//! A picture of a client that reads slowly takes the bytes of its file and no more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use super::base64::base64;
use super::json::json_text;

/// Bytes of a file that become text at a time. A multiple of 3, so that the texts in a row are that of the file.
const CHUNK_BYTES: usize = 48 << 10;

/// The text of an answer, in parts.
#[derive(Debug, Default)]
pub(super) struct JsonWithFiles(VecDeque<Part>);

/// A part that the client has not taken yet; never empty.
#[derive(Debug)]
enum Part {
    Text(Bytes),
    File(Bytes),
}

impl Part {
    /// Bytes of its text.
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(file) => 4 * (file.len() as u64).div_ceil(3),
        }
    }
}

impl JsonWithFiles {
    /// Adds text.
    pub fn text(&mut self, text: impl Into<Bytes>) {
        let text = text.into();
        if !text.is_empty() {
            self.0.push_back(Part::Text(text));
        }
    }

    /// Adds the text of a file, without its quotation marks.
    pub fn file(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            // Without the room that its writer left for more.
            self.0
                .push_back(Part::File(bytes.into_boxed_slice().into()));
        }
    }

    /// Adds the fields of an object and its closing brace; others are before them.
    pub fn further_fields(&mut self, object: &Value) {
        let text = object.to_string();
        match text.as_str() {
            "{}" => self.text("}"),
            _ => {
                self.text(",");
                self.text(Bytes::from(text).slice(1..));
            }
        }
    }

    /// The answer.
    pub fn response(self) -> Response {
        json_text(Body::new(self))
    }
}

impl HttpBody for JsonWithFiles {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.0.pop_front() {
            None => return Poll::Ready(None),
            Some(Part::Text(text)) => text,
            Some(Part::File(mut file)) => {
                let chunk = file.split_to(file.len().min(CHUNK_BYTES));
                if !file.is_empty() {
                    self.0.push_front(Part::File(file));
                }
                base64(&chunk).into()
            }
        };
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(Part::length).sum())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_text_is_json_with_each_file_whole_and_as_long_as_it_says() {
        for length in [
            0,
            1,
            2,
            3,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            2 * CHUNK_BYTES + 1,
        ] {
            let file: Vec<u8> = (0..length).map(|nth| (nth * 7 % 251) as u8).collect();
            for fields in [json!({}), json!({"seed": 7, "prompt": "a \"fox\""})] {
                let mut answer = JsonWithFiles::default();
                answer.text("{\"file\":\"");
                answer.file(file.clone());
                answer.text("\"");
                answer.further_fields(&fields);
                let said = answer.size_hint().exact();
                let text = to_bytes(Body::new(answer), usize::MAX).await;
                let text = text.expect("it is in memory");
                assert_eq!(said, Some(text.len() as u64));
                let mut wanted = fields;
                wanted["file"] = base64(&file).into();
                assert_eq!(serde_json::from_slice::<Value>(&text).ok(), Some(wanted));
            }
        }
    }
}
