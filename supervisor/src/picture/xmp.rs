//! The XMP packet of a picture: the mark that it was generated, and the receipt.
//!
//! PNG has the receipt in a text chunk of its own. The mark is the property `DigitalSourceType` of IPTC Photo Metadata 2025.1 with the term
//! `trainedAlgorithmicMedia`. The packet is as short as XMP allows, so that it fits a JPEG segment.

use std::fmt::Write;

use super::format::Quality;
use super::md5::md5;
use super::receipt::{self, Refusal};

/// Keyword of the PNG text chunk that contains the packet.
pub const PNG_KEYWORD: &str = "XML:com.adobe.xmp";
/// The term of a picture that a trained model generated.
pub const GENERATED: &str =
    "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
/// The namespace of our own properties.
pub const NAMESPACE: &str = "urn:imagepool:receipt:1#";
/// Bytes of the digest that names an extended packet.
pub const GUID_BYTES: usize = 32;
/// Longest packet that is read, in bytes: the longest receipt with every character escaped as `&quot;`, and the rest.
const BYTES_MAX: usize = 6 * receipt::BYTES_MAX + 8 * 1024;

/// The contents of a packet. Each has the mark.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The receipt as JSON.
    pub receipt: Option<&'a str>,
    /// The quality of a lossy file, with which a replay encodes the new picture.
    pub quality: Option<Quality>,
}

impl Packet<'_> {
    /// The whole packet.
    pub fn whole(&self) -> String {
        wrapped(&self.properties(true))
    }

    /// The packet without the receipt, which is in the extended packet with this digest.
    pub fn extended_by(&self, guid: &str) -> String {
        let note = format!(
            "<xmpNote:HasExtendedXMP xmlns:xmpNote=\"http://ns.adobe.com/xmp/note/\">{guid}</xmpNote:HasExtendedXMP>"
        );
        wrapped(&(self.properties(false) + &note))
    }

    /// The extended packet: the receipt alone.
    pub fn extension(&self) -> String {
        meta(&receipt_property(self.receipt))
    }

    fn properties(&self, with_receipt: bool) -> String {
        let mut text = format!(
            "<Iptc4xmpExt:DigitalSourceType xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\">{GENERATED}</Iptc4xmpExt:DigitalSourceType>"
        );
        if let Some(quality) = self.quality {
            let quality = quality.get();
            let property = format!(
                "<imagepool:quality xmlns:imagepool=\"{NAMESPACE}\">{quality}</imagepool:quality>"
            );
            text += &property;
        }
        if with_receipt {
            text += &receipt_property(self.receipt);
        }
        text
    }
}

fn receipt_property(receipt: Option<&str>) -> String {
    receipt.map_or_else(String::new, |json| {
        let json = escaped(json);
        format!("<imagepool:receipt xmlns:imagepool=\"{NAMESPACE}\">{json}</imagepool:receipt>")
    })
}

/// A packet of properties, without the blanks that would let other programs edit it in place.
fn wrapped(properties: &str) -> String {
    let meta = meta(properties);
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>{meta}<?xpacket end=\"r\"?>"
    )
}

fn meta(properties: &str) -> String {
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\">{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
}

/// The digest that names an extended packet.
pub fn guid(extension: &str) -> String {
    let digest = md5(extension.as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}"); // A `String` takes everything.
        text
    })
}

/// Escapes JSON for XML. Characters that XML does not allow, and control characters, become JSON's own escapes: JSON
/// has them within strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\u{fffe}' | '\u{ffff}' | '\u{7f}'..='\u{9f}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c)); // A `String` takes everything.
            }
            c => text.push(c),
        }
    }
    text
}

/// The text of a packet from a file.
///
/// # Errors
/// It is longer than any of ours, or not UTF-8.
pub fn text(packet: Vec<u8>) -> Result<String, Refusal> {
    if packet.len() > BYTES_MAX {
        let bytes = packet.len();
        return Err(Refusal::new(format!(
            "its XMP packet has {bytes} bytes, more than the limit of {BYTES_MAX}"
        )));
    }
    String::from_utf8(packet).map_err(|_| Refusal::new("its XMP packet is not UTF-8"))
}

/// Returns the receipt in a packet as JSON; `None` if it has none.
///
/// # Errors
/// It has several, or the only one is damaged.
pub fn receipt_in(packet: &str) -> Result<Option<String>, Refusal> {
    property(packet, "receipt")
}

/// Returns the quality in a packet; `None` if it has none.
///
/// # Errors
/// It has several, or the only one is not a quality.
pub fn quality_in(packet: &str) -> Result<Option<Quality>, Refusal> {
    let Some(text) = property(packet, "quality")? else {
        return Ok(None);
    };
    let quality = text.parse().ok().and_then(Quality::new);
    let invalid = || Refusal::new("its XMP packet has a quality that is not 1 to 100");
    quality.map(Some).ok_or_else(invalid)
}

/// The text of one of our properties. Only the form that [`Packet`] writes is known: a file that another program has
/// written again is not one that a replay could compare.
fn property(packet: &str, name: &str) -> Result<Option<String>, Refusal> {
    let open = format!("<imagepool:{name} xmlns:imagepool=\"{NAMESPACE}\">");
    let mut parts = packet.split(&open);
    let Some(after) = parts.nth(1) else {
        return Ok(None);
    };
    if parts.next().is_some() {
        return Err(Refusal::new(format!("has more than one {name}")));
    }
    let (text, _) = after
        .split_once(&format!("</imagepool:{name}>"))
        .ok_or_else(|| Refusal::new(format!("its {name} has no end")))?;
    unescaped(text)
        .map(Some)
        .ok_or_else(|| Refusal::new(format!("its {name} cannot be read: it is not valid XML")))
}

/// Reverses [`escaped`]; `None` for markup and for entities that it does not write.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('&');
    plain.push_str(parts.next()?);
    for part in parts {
        let (entity, rest) = part.split_once(';')?;
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        plain.push_str(rest);
    }
    (!text.contains('<')).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_comes_back_from_its_packet() {
        for json in [
            r#"{"prompt":"a <b> & \"c\" ]]> é 🦊"}"#,
            "{\"prompt\":\"&amp;lt; \u{2028}\"}",
            "{}",
        ] {
            let packet = Packet {
                receipt: Some(json),
                quality: Quality::new(80),
            };
            let (whole, extension) = (packet.whole(), packet.extension());
            assert_eq!(receipt_in(&whole), Ok(Some(json.to_owned())));
            assert_eq!(receipt_in(&extension), Ok(Some(json.to_owned())));
            assert_eq!(quality_in(&whole), Ok(Quality::new(80)));
            let divided = packet.extended_by(&guid(&extension));
            assert_eq!(receipt_in(&divided), Ok(None));
            for text in [whole, divided] {
                assert!(
                    text.contains(&format!(">{GENERATED}</Iptc4xmpExt:")),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn characters_that_xml_does_not_allow_become_escapes_of_json() {
        let json = "\"\u{7f}\u{9b}\u{ffff}x\"";
        let packet = Packet {
            receipt: Some(json),
            quality: None,
        };
        let read = receipt_in(&packet.whole())
            .expect("ours")
            .expect("it has one");
        assert_eq!(read, r#""\u007f\u009b\uffffx""#);
        let same: (String, String) = (
            serde_json::from_str(json).expect("JSON"),
            serde_json::from_str(&read).expect("JSON"),
        );
        assert_eq!(same.0, same.1);
    }

    #[test]
    fn damaged_properties_are_refused() {
        let one = receipt_property(Some("{}"));
        for (packet, word) in [
            (one.repeat(2), "more than one"),
            (one.replace("</", "<"), "no end"),
            (one.replace("{}", "&nbsp;"), "not valid XML"),
            (one.replace("{}", "&amp"), "not valid XML"),
            (one.replace("{}", "<a/>"), "not valid XML"),
        ] {
            let refusal = receipt_in(&packet).expect_err("damaged").to_string();
            assert!(refusal.contains(word), "{refusal}");
        }
        assert_eq!(receipt_in(&one.replace(NAMESPACE, "urn:other")), Ok(None));
        assert!(text(vec![b' '; BYTES_MAX + 1]).is_err());
        assert!(text(vec![0xff]).is_err());
    }
}
