//! Requests to a hub and the hosts it redirects to. The token is sent to the scheme, host and port of the endpoint
//! only, also after redirects; the length of an answer is bounded while it is read.

use std::ops::Deref;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, LINK, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::file_head::FileHead;
use crate::token::Token;

/// Tries of a request that fails with a transient status.
const TRIES_MAX: u32 = 3;
/// Pause after the first try; it doubles with each.
const PAUSE: Duration = Duration::from_millis(200);
/// Most redirects of one request.
const REDIRECTS_MAX: usize = 10;
/// Longest body of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why a request has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The host refused, with its message if it sent one.
    Status(StatusCode, Option<String>),
    /// The connection failed or broke, for this reason.
    Broke(String),
    /// The answer is longer than this bound in bytes.
    TooLong(usize),
}

/// A client of one hub.
pub struct Http {
    client: Client,
    endpoint: Url,
    token: Option<Token>,
    patience: Duration,
}

impl Http {
    /// Makes a client of the hub at `endpoint`, which waits no longer than `patience` for data.
    ///
    /// # Errors
    /// An invalid URL, or an HTTP client that cannot be built.
    pub fn new(endpoint: &str, token: Option<&Token>, patience: Duration) -> Result<Self, String> {
        let client = Client::builder()
            .user_agent(concat!("imagepool/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .build();
        let endpoint = Url::parse(endpoint).map_err(|error| error.to_string())?;
        if endpoint.cannot_be_a_base() {
            return Err("not the address of a host".into());
        }
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            endpoint,
            token: token.cloned(),
            patience,
        })
    }

    /// An address at the endpoint; each part becomes one segment of the path, whatever characters it has.
    pub fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .expect("an address of a host has a path")
            .pop_if_empty()
            .extend(parts);
        url
    }

    /// Whether an address has the scheme, host and port of the endpoint.
    fn is_at_endpoint(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// Requests `url` from byte `begin` on; retries transient refusals.
    ///
    /// # Errors
    /// The host refuses, or sends nothing for too long.
    pub async fn get(&self, url: &Url, begin: u64) -> Result<Response, NoAnswer> {
        self.ask(&Method::GET, url, begin, |_| false).await
    }

    /// Asks for the facts of a file, without its bytes; retries transient refusals.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub async fn head(&self, url: &Url) -> Result<FileHead, NoAnswer> {
        let mut head = FileHead::default();
        let response = self
            .ask(&Method::HEAD, url, 0, |response| {
                head.add(response.headers());
                head.is_complete()
            })
            .await?;
        head.finish(response.headers());
        Ok(head)
    }

    async fn ask(
        &self,
        method: &Method,
        url: &Url,
        begin: u64,
        mut is_enough: impl FnMut(&Response) -> bool,
    ) -> Result<Response, NoAnswer> {
        let mut pause = PAUSE;
        for _ in 1..TRIES_MAX {
            match self
                .follow(method, url.clone(), begin, &mut is_enough)
                .await
            {
                Err(NoAnswer::Status(status, _)) if is_transient(status) => {}
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.follow(method, url.clone(), begin, &mut is_enough)
            .await
    }

    /// Tries once and follows the redirects, until a redirect or the answer is enough.
    async fn follow(
        &self,
        method: &Method,
        mut url: Url,
        begin: u64,
        is_enough: &mut impl FnMut(&Response) -> bool,
    ) -> Result<Response, NoAnswer> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(method, &url, begin).await?;
            let status = response.status();
            let is_answer = status.is_success() || status.is_redirection();
            if is_answer && is_enough(&response) || status.is_success() {
                return Ok(response);
            }
            let Some(location) = location(&response) else {
                let words = self.words(response).await;
                return Err(NoAnswer::Status(status, words));
            };
            url = url.join(&location).map_err(|error| {
                NoAnswer::Broke(format!("the hub redirects to {location:?}: {error}"))
            })?;
        }
        Err(NoAnswer::Broke(format!(
            "the hub redirects more than {REDIRECTS_MAX} times"
        )))
    }

    /// Sends one request to one host.
    async fn once(&self, method: &Method, url: &Url, begin: u64) -> Result<Response, NoAnswer> {
        let mut request = self.client.request(method.clone(), url.clone());
        if begin > 0 {
            request = request.header(RANGE, format!("bytes={begin}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| self.is_at_endpoint(url)) {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        match tokio::time::timeout(self.patience, request.send()).await {
            Ok(answer) => answer.map_err(|error| NoAnswer::Broke(reasons(&error))),
            Err(_) => Err(self.silence()),
        }
    }

    /// Reads the whole body of an answer of at most `most` bytes.
    pub async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, NoAnswer> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if body.len() + chunk.len() > most {
                return Err(NoAnswer::TooLong(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Reads the next bytes of a body; `None` at its end.
    pub async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<impl Deref<Target = [u8]> + use<>>, NoAnswer> {
        match tokio::time::timeout(self.patience, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| NoAnswer::Broke(reasons(&error))),
            Err(_) => Err(self.silence()),
        }
    }

    /// The address of the next page, if the answer names one.
    ///
    /// # Errors
    /// It is at another host, which may not get the token.
    pub fn next_page(&self, headers: &HeaderMap) -> Result<Option<Url>, NoAnswer> {
        let links = headers.get(LINK).and_then(|links| links.to_str().ok());
        let next = links
            .unwrap_or_default()
            .split(',')
            .find(|link| link.contains("rel=\"next\""));
        let Some((address, _)) = next.and_then(|link| link.split_once('<')?.1.split_once('>'))
        else {
            return Ok(None);
        };
        match self.endpoint.join(address) {
            Ok(url) if self.is_at_endpoint(&url) => Ok(Some(url)),
            Ok(_) | Err(_) => Err(NoAnswer::Broke(format!(
                "the next page is at {address:?}, which is another host than the hub"
            ))),
        }
    }

    fn silence(&self) -> NoAnswer {
        NoAnswer::Broke(format!("no data for {} s", self.patience.as_secs_f64()))
    }

    /// The message in the body of a refusal.
    async fn words(&self, response: Response) -> Option<String> {
        let body = self.body(response, REFUSAL_BYTES_MAX).await.ok()?;
        let value: serde_json::Value = serde_json::from_slice(&body).ok()?;
        Some(value.get("error")?.as_str()?.to_owned())
    }
}

/// The address that an answer redirects to.
fn location(response: &Response) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    Some(location.to_str().ok()?.to_owned())
}

/// Whether a status is transient.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// An error with its chain of sources, each sentence once.
pub fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn http(endpoint: &str) -> Http {
        Http::new(endpoint, None, Duration::from_secs(1)).expect("an address")
    }

    #[test]
    fn the_endpoint_is_one_scheme_host_and_port() {
        let http = http("https://hub.example/mirror/");
        let at = |text: &str| http.is_at_endpoint(&Url::parse(text).expect("an address"));
        assert!(at("https://hub.example/anything") && at("https://hub.example:443/"));
        for other in [
            "http://hub.example/",
            "https://hub.example:8443/",
            "https://cdn.hub.example/",
            "https://hub.example.evil/",
        ] {
            assert!(!at(other), "{other}");
        }
    }

    #[test]
    fn a_part_of_an_address_stays_one_part() {
        let http = http("https://hub.example/mirror/");
        let url = http.url(["api", "models", "o", "n", "revision", "a/b?c#d"]);
        let expected = "https://hub.example/mirror/api/models/o/n/revision/a%2Fb%3Fc%23d";
        assert_eq!(url.as_str(), expected);
    }

    #[test]
    fn a_next_page_at_another_host_is_refused() {
        let http = http("https://hub.example");
        let next = |link: &'static str| {
            let link = HeaderValue::from_static(link);
            http.next_page(&HeaderMap::from_iter([(LINK, link)]))
        };
        let page = next("<https://hub.example/p?cursor=2>; rel=\"next\"");
        let page = page.expect("at the hub").expect("there is one");
        assert_eq!(page.as_str(), "https://hub.example/p?cursor=2");
        assert!(next("<https://evil.example/p>; rel=\"next\"").is_err());
        assert!(next("<//evil.example/p>; rel=\"next\"").is_err());
        let first = next("<https://evil.example/p>; rel=\"prev\"");
        assert!(first.expect("not asked for").is_none());
    }
}
