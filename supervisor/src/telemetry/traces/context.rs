//! The ids of traces and spans, and the header `traceparent` of W3C Trace Context.

use std::fmt::{self, Display, Formatter};

/// Length of a header of version 00.
const LENGTH: usize = 55;

/// The id of a trace: 16 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span: 8 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// The span of a caller, in which a job begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The caller's trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// The caller records its trace.
    pub sampled: bool,
}

impl TraceId {
    /// A random id; `None` if the kernel gives no random bits.
    pub fn random() -> Option<Self> {
        random().map(Self)
    }
}

impl SpanId {
    /// A random id; `None` if the kernel gives no random bits.
    pub fn random() -> Option<Self> {
        random().map(Self)
    }
}

impl TraceParent {
    /// Reads a header; `None` if it is invalid, and then a new trace begins.
    pub fn read(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let version: [u8; 1] = bytes(parts.next()?)?;
        let trace = bytes(parts.next()?).filter(|id| *id != [0; 16])?;
        let span = bytes(parts.next()?).filter(|id| *id != [0; 8])?;
        let [flags] = bytes(parts.next()?)?;
        let is_known = match version {
            [0xff] => false,
            [0] => header.len() == LENGTH,
            // A later version may have further parts.
            [_] => header.len() >= LENGTH,
        };
        is_known.then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled: flags & 1 == 1,
        })
    }
}

impl Display for TraceParent {
    /// The header.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(formatter, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

impl Display for TraceId {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        hex(&self.0, formatter)
    }
}

impl Display for SpanId {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        hex(&self.0, formatter)
    }
}

fn hex(bytes: &[u8], formatter: &mut Formatter<'_>) -> fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

/// Exactly `N` bytes in lower-case hexadecimal digits.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let lower = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.iter().all(lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (nth, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * nth..2 * nth + 2], 16).ok()?;
    }
    Some(bytes)
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut id = [0; N];
    getrandom::fill(&mut id).ok()?;
    Some(id).filter(|id| *id != [0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_names_trace_and_span() {
        let parent = TraceParent::read(HEADER).expect("the example of the specification");
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span.to_string(), "b7ad6b7169203331");
        assert!(parent.sampled);
        let quiet = TraceParent::read(&HEADER.replace("-01", "-02")).expect("valid");
        assert!(!quiet.sampled);
        let later = format!("{}-more", HEADER.replacen("00", "cc", 1));
        assert_eq!(TraceParent::read(&later), Some(parent));
    }

    #[test]
    fn an_invalid_header_names_nothing() {
        let upper = HEADER.to_uppercase();
        for wrong in [
            "",
            "00",
            &upper,
            &HEADER[1..],
            &format!("{HEADER}-more"),
            &HEADER.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b716920333-01",
        ] {
            assert_eq!(TraceParent::read(wrong), None, "{wrong:?}");
        }
    }
}
