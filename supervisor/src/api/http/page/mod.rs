//! The page: one HTML document with its style and its script, put together on the first request.
//!
//! Nothing in it comes from another address, and its policy lets nothing else run or load: the style and the script
//! are named by their digests.

use std::io::{self, Write};
use std::sync::LazyLock;

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::base64::base64;

const DOCUMENT: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
/// The script in the order in which its parts build on each other.
const SCRIPT: &str = concat!(
    include_str!("script/dom.js"),
    include_str!("script/words.js"),
    include_str!("script/server.js"),
    include_str!("script/album.js"),
    include_str!("script/receipt.js"),
    include_str!("script/jobs.js"),
    include_str!("script/field.js"),
    include_str!("script/stage.js"),
    include_str!("script/strip.js"),
    include_str!("script/composer.js"),
    include_str!("script/pool.js"),
    include_str!("script/main.js"),
);
/// The places in the document.
const STYLE_PLACE: &str = "/* style.css */";
const SCRIPT_PLACE: &str = "/* script */";

/// The document and the headers that depend on it.
static PAGE: LazyLock<ReadyPage> = LazyLock::new(ReadyPage::new);

struct ReadyPage {
    body: String,
    /// The body in gzip; `None` if that failed, so that browsers get the plain one.
    packed: Option<Vec<u8>>,
    policy: HeaderValue,
    tag: HeaderValue,
}

impl ReadyPage {
    fn new() -> Self {
        let body = DOCUMENT
            .replacen(STYLE_PLACE, STYLE, 1)
            .replacen(SCRIPT_PLACE, SCRIPT, 1);
        let (style, script) = (digest(STYLE), digest(SCRIPT));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src 'self' blob: data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        );
        let visible = |text: String| {
            HeaderValue::try_from(text).expect("digests and fixed words are visible")
        };
        Self {
            // Weak, because it stands for both encodings.
            tag: visible(format!("W/\"{}\"", digest(&body))),
            packed: pack(&body).ok(),
            policy: visible(policy),
            body,
        }
    }
}

/// `GET /`: the page, or 304 if the browser has it already.
pub(super) async fn page(headers: HeaderMap) -> Response {
    let page = &*PAGE;
    let fixed: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_SECURITY_POLICY, page.policy.clone()),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Kept by the browser, and asked about each time: a new version shows at once.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, page.tag.clone()),
    ];
    let known = headers.get_all(IF_NONE_MATCH).iter();
    if known
        .filter_map(|tags| tags.to_str().ok())
        .any(|tags| names(tags, &page.tag))
    {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    let kind = (
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    match page.packed.as_deref().filter(|_| accepts_gzip(&headers)) {
        Some(packed) => {
            let packing = (CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            (fixed, [kind, packing], packed).into_response()
        }
        None => (fixed, [kind], page.body.as_str()).into_response(),
    }
}

fn pack(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// Whether the browser reads gzip: named, and not with the quality 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let reads = |word: &str| {
        let (name, quality) = word.split_once(';').unwrap_or((word, ""));
        name.trim().eq_ignore_ascii_case("gzip")
            && !quality.trim_end_matches(['0', '.', ' ']).ends_with("q=")
    };
    let lists = headers.get_all(ACCEPT_ENCODING).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .any(|list| list.split(',').any(reads))
}

/// Whether a list of tags has this one. Proxies may mark tags as weak.
fn names(tags: &str, tag: &HeaderValue) -> bool {
    let plain = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    tags.split(',')
        .any(|one| tag.to_str().is_ok_and(|tag| plain(one) == plain(tag)))
}

fn digest(text: &str) -> String {
    base64(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Most bytes of the page.
    const BYTES_MAX: usize = 100_000;

    #[test]
    fn the_page_has_style_and_script_once_and_is_small() {
        let body = &PAGE.body;
        assert!(body.contains(STYLE) && body.contains(SCRIPT));
        assert!(!body.contains(STYLE_PLACE) && !body.contains(SCRIPT_PLACE));
        assert_eq!(
            (
                body.matches("<style>").count(),
                body.matches("<script").count()
            ),
            (1, 1)
        );
        // An end tag inside would end the element early, and then its digest would differ.
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</script"));
        assert!(body.len() <= BYTES_MAX, "{} bytes", body.len());
    }

    #[test]
    fn the_page_names_no_other_address_and_parses_no_text_as_markup() {
        let namespace = "http://www.w3.org/2000/svg";
        let rest = PAGE.body.replace(namespace, "");
        for word in [
            "http:",
            "https:",
            "//cdn",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!rest.contains(word), "{word}");
        }
        // The policy forbids attributes of this kind: browsers would leave them out and complain.
        assert!(!DOCUMENT.contains(" style=") && !DOCUMENT.contains(" onclick="));
    }

    #[tokio::test]
    async fn a_browser_that_has_the_page_does_not_get_it_again() {
        let first = page(HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].clone();
        let mut known = HeaderMap::new();
        known.insert(IF_NONE_MATCH, HeaderValue::from_static("\"another\""));
        assert_eq!(page(known.clone()).await.status(), StatusCode::OK);
        let weak = format!("\"another\", {}", tag.to_str().expect("visible"));
        known.insert(IF_NONE_MATCH, HeaderValue::try_from(weak).expect("visible"));
        let again = page(known).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()[ETAG], tag);
    }

    #[tokio::test]
    async fn a_browser_that_reads_gzip_gets_the_same_page_in_it() {
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT_ENCODING,
            HeaderValue::from_static("br;q=1, gzip;q=0.8"),
        );
        let response = page(headers).await;
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let packed = axum::body::to_bytes(response.into_body(), BYTES_MAX)
            .await
            .expect("in memory");
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut unpacked)
            .expect("valid gzip");
        assert!(unpacked == PAGE.body && packed.len() < unpacked.len() / 2);
        for other in ["", "br", "gzip;q=0", "gzip; q=0.0", "xgzip"] {
            let headers =
                HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(other))]);
            assert!(
                !page(headers).await.headers().contains_key(CONTENT_ENCODING),
                "{other}"
            );
        }
    }

    #[tokio::test]
    async fn the_policy_lets_nothing_run_but_this_script() {
        let response = page(HeaderMap::new()).await;
        let policy = response.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("visible");
        assert!(policy.starts_with("default-src 'none'; "));
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        for rule in [
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "connect-src 'self'",
        ] {
            assert!(policy.contains(rule), "{rule}");
        }
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[REFERRER_POLICY], "no-referrer");
    }
}
