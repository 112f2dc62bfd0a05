//! Checks of every request before its route: host, origin, token, kind of body.
//!
//! A web page of any site can make a browser send requests to this machine, also under a name that it points here
//! ("DNS rebinding"). So a request over TCP must name a known host, one from a page must come from a known origin, and a
//! body must be JSON, which no form can send.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CONTENT_LENGTH,
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, TRANSFER_ENCODING, VARY,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::base64;
use super::caller::{HttpCaller, Peer};
use super::context::{HttpContext, Shared};
use super::error::ApiError;
use super::policy::name;

/// The id of a request, chosen by the client or by us.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of an id that a client chose.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Most bytes of all names and values of a request's headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a request's path and query.
const PATH_BYTES_MAX: usize = 4 * 1024;
/// The methods of all routes, for pages of allowed origins.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
/// Names of this machine that need no setting.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The id of a request, for the log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub String);

/// Checks a request, answers those that do not pass, and adds the headers of every answer.
pub(super) async fn guard(
    State(context): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let origin = request.headers().get(ORIGIN).cloned();
    let granted = origin.filter(|origin| is_allowed(&context, origin));
    let mut response = match admit(&context, &request) {
        Err(error) => error.into_response(),
        Ok(None) => preflight(granted.is_some()),
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(RequestId(id.clone()));
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    // It has only visible characters.
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = granted {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, location, retry-after");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// The caller of a request that passes; `None` for a question about methods, which needs no caller.
fn admit(context: &HttpContext, request: &Request) -> Result<Option<HttpCaller>, ApiError> {
    let headers = request.headers();
    check_head(request.uri(), headers)?;
    let peer = request
        .extensions()
        .get::<Peer>()
        .copied()
        .unwrap_or(Peer::Tcp);
    let host = host(request.uri(), headers)?;
    if peer == Peer::Tcp && !is_known(context, &host) {
        let message = format!(
            "{:?} is not a name of this service: add it to http.hosts",
            name(&host)
        );
        return Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown_host",
            message,
        ));
    }
    if let Some(origin) = headers.get(ORIGIN)
        && !is_allowed(context, origin)
        && !is_same(origin, &host)
    {
        let message =
            "a page of another origin may not use this service: add the origin to http.origins";
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            message,
        ));
    }
    if request.method() == Method::OPTIONS {
        return Ok(None);
    }
    check_body(headers)?;
    caller(context, peer, headers).map(Some)
}

/// Refuses a head that is far longer than any client's: the server below bounds its buffer only roughly.
fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let path = uri.path().len() + uri.query().map_or(0, str::len);
    if path > PATH_BYTES_MAX {
        let message = format!("the address has {path} bytes: send {PATH_BYTES_MAX} at most");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "too_long", message));
    }
    if bytes > HEADER_BYTES_MAX {
        let message = format!("the headers have {bytes} bytes: send {HEADER_BYTES_MAX} at most");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ApiError::new(status, "too_long", message));
    }
    Ok(())
}

/// The host that a request names, in lower case.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<String, ApiError> {
    let bad = |message: &str| ApiError::new(StatusCode::BAD_REQUEST, "bad_host", message);
    let mut named = headers.get_all(HOST).iter();
    let header = named
        .next()
        .ok_or_else(|| bad("the request has no Host header"))?;
    if named.next().is_some() {
        return Err(bad("the request has two Host headers"));
    }
    let host = header
        .to_str()
        .map_err(|_| bad("the Host header has invalid characters"))?;
    match uri.authority() {
        Some(authority) if authority.as_str() != host => {
            Err(bad("the Host header and the address of the request differ"))
        }
        _ => Ok(host.to_ascii_lowercase()),
    }
}

fn is_known(context: &HttpContext, host: &str) -> bool {
    let name = name(host);
    LOOPBACK.contains(&name) || context.policy.now().config.hosts.contains(name)
}

fn is_allowed(context: &HttpContext, origin: &HeaderValue) -> bool {
    origin
        .to_str()
        .is_ok_and(|origin| context.policy.now().config.origins.contains(origin))
}

/// Whether an origin is this service itself, under the name that the request used.
fn is_same(origin: &HeaderValue, host: &str) -> bool {
    let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
    let address = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    address == Some(host)
}

/// Refuses a body that is not JSON: forms of foreign pages can send only others.
fn check_body(headers: &HeaderMap) -> Result<(), ApiError> {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let has_body =
        headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0");
    let kind = headers.get(CONTENT_TYPE);
    if !has_body && kind.is_none() {
        return Ok(());
    }
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "a body must be JSON: send Content-Type: application/json";
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        message,
    ))
}

/// The sender of a request: over TCP the holder of its token.
fn caller(context: &HttpContext, peer: Peer, headers: &HeaderMap) -> Result<HttpCaller, ApiError> {
    let policy = context.policy.now();
    let rights = match peer {
        // The kernel says who it is; clients that insist on sending a key may.
        Peer::Unix(rights) => return Ok(HttpCaller::on_unix(rights)),
        Peer::Tcp => policy.config.anonymous.clone(),
    };
    let Some(credentials) = headers.get(AUTHORIZATION) else {
        return Ok(HttpCaller::anonymous(rights));
    };
    let token = token(credentials);
    match token.and_then(|token| policy.tokens.find(&token)) {
        Some(token) => Ok(HttpCaller::with_token(token)),
        // Many clients cannot leave a key out; without rights to lose it does no harm.
        None if !rights.is_empty() => Ok(HttpCaller::anonymous(rights)),
        None => {
            let message = "the token is not known to this service";
            Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "invalid_token",
                message,
            ))
        }
    }
}

/// The token of an `Authorization` header: a bearer token, or the password of basic authentication.
fn token(credentials: &HeaderValue) -> Option<String> {
    let (scheme, rest) = credentials.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.to_owned()),
        "basic" => {
            let pair = String::from_utf8(base64::bytes(rest)?).ok()?;
            pair.split_once(':')
                .map(|(_, password)| password.to_owned())
        }
        _ => None,
    }
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let plain = |id: &&str| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_BYTES_MAX
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match given.filter(plain) {
        Some(id) => id.to_owned(),
        // Without random bits two requests share an id, which harms only the log.
        None => format!("{:016x}", getrandom::u64().unwrap_or_default()),
    }
}

/// Answers a question about methods, which browsers and some clients ask first. The router adds `Allow`, with the
/// methods of the route.
fn preflight(granted: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if granted {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        let allowed = HeaderValue::from_static("authorization, content-type, x-request-id");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}
