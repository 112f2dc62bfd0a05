//! Requests of hostile web pages and broken clients over TCP: none is accepted, and the daemon goes on.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tests::daemon::TestDaemon;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take; without one the request was not accepted.
const WAIT: Duration = Duration::from_secs(5);
const SETTINGS: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";
const BODY: &str = r#"{"prompt":"x","model":"syn","size":"256x256"}"#;

/// A daemon with its door on TCP, and the token that it made.
struct OpenDoor {
    daemon: TestDaemon,
    address: SocketAddr,
    token: String,
}

impl OpenDoor {
    fn open() -> Self {
        let daemon = TestDaemon::start(SETTINGS);
        let line = daemon.stderr.wait_for("HTTP door open", 1, PATIENCE);
        let address = line
            .split("address=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let address = address
            .and_then(|address| address.parse().ok())
            .expect("it listens on TCP");
        let file = daemon.sandbox.runtime_dir().join("http.token");
        let token = std::fs::read_to_string(file).expect("the daemon made it");
        Self {
            daemon,
            address,
            token: token.trim().to_owned(),
        }
    }

    /// Sends bytes and reads until the other side closes; the status of each answer.
    fn statuses(&self, bytes: &[u8]) -> Vec<u16> {
        let mut stream = TcpStream::connect(self.address).expect("the door is open");
        stream.set_read_timeout(Some(WAIT)).expect("a socket");
        // The other side may refuse before it has read everything, and wait for the rest of what has none.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let heads = answer.split("HTTP/1.1 ").skip(1);
        heads
            .filter_map(|head| head.get(..3)?.parse().ok())
            .collect()
    }

    /// A good request with another head; `{host}` and `{token}` stand for the right ones.
    fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let headers = headers
            .replace("{host}", &self.address.to_string())
            .replace("{token}", &self.token);
        format!("{line} HTTP/1.1\r\n{headers}\r\n{body}")
    }
}

const LINE: &str = "POST /v1/images/generations";

/// The headers of a good request, with these in place of some.
fn headers(host: &str, origin: &str, kind: &str, length: &str) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("Host", host),
        ("Origin", origin),
        ("Content-Type", kind),
        ("Content-Length", length),
    ] {
        if !value.is_empty() {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text + "Authorization: Bearer {token}\r\nConnection: close\r\n"
}

/// Requests that a page under a foreign name or origin can make a browser send.
fn of_pages() -> Vec<String> {
    let length = BODY.len().to_string();
    let json = "application/json";
    let mut all = Vec::new();
    for host in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "[::2]",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "127.1",
        "localhost.",
        "imagepool",
        "169.254.169.254",
        "metadata.internal",
        "localhost@evil.example",
        "evil.example#localhost",
        "xn--lcalhost-55a",
        "a".repeat(300).as_str(),
    ] {
        all.push(headers(host, "", json, &length));
        all.push(headers(host, &format!("http://{host}"), json, &length));
    }
    for origin in [
        "http://evil.example",
        "https://evil.example",
        "null",
        "file://",
        "http://localhost:1",
        "http://127.0.0.1",
        "http://localhost.evil.example",
        "chrome-extension://abcdef",
        "http://{host}.evil.example",
        "http://evil.example@{host}",
        "ftp://{host}",
        "http://{host}/",
        "http://{host}, http://evil.example",
        "{host}",
        "http://[::1]:1",
        "data:,x",
    ] {
        all.push(headers("{host}", origin, json, &length));
        all.push(headers("{host}", origin, "text/plain", &length));
        all.push(headers("{host}", origin, "", ""));
    }
    all
}

/// Bodies that are not JSON, as forms send them.
fn of_forms() -> Vec<String> {
    let length = BODY.len().to_string();
    let kinds = [
        "",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonx",
        "application/xml",
        "text/html",
        "application/json, text/plain",
        "text/plain; application/json",
        "application/octet-stream",
        "*/*",
        "json",
        "application/json/x",
        "application/vnd.api+json",
        "application /json",
        "image/png",
        "application/x-json",
        "application/javascript",
    ];
    kinds
        .iter()
        .map(|kind| headers("{host}", "", kind, &length))
        .collect()
}

/// Heads that two readers could read differently, and invalid ones.
fn of_smugglers() -> Vec<String> {
    let good = "Host: {host}\r\nContent-Type: application/json\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n";
    let length = BODY.len();
    let tails = [
        format!("Content-Length: {length}\r\nContent-Length: 3\r\n"),
        format!("Content-Length: {length}, 3\r\n"),
        "Content-Length: -1\r\n".into(),
        "Content-Length: 99999999999999999999\r\n".into(),
        "Content-Length: 0x10\r\n".into(),
        "Content-Length: \r\n".into(),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length: {length}\r\n folded: x\r\nX\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: gzip\r\n"),
        "Transfer-Encoding: xchunked\r\n".into(),
        "Transfer-Encoding: chunked, identity\r\n".into(),
        "Transfer-Encoding : chunked\r\n".into(),
        "Transfer-Encoding:\u{b}chunked\r\n".into(),
        format!("Content-Length: {length}\r\nX\0Y: z\r\n"),
        format!("Content-Length: {length}\r\nX: a\0b\r\n"),
        format!("Content-Length: {length}\r\nHost: {{host}}\r\n"),
        format!("Content-Length: {length}\r\nHost: evil.example\r\n"),
        format!("Content-Length: {length}\r\n: no name\r\n"),
        format!("Content-Length: {length}\r\nno colon\r\n"),
        format!(
            "Content-Length: {length}\r\nX: {}\r\n",
            "a".repeat(40 * 1024)
        ),
    ];
    let mut all: Vec<String> = tails.iter().map(|tail| format!("{good}{tail}")).collect();
    all.push(format!("Content-Type: application/json\r\nContent-Length: {length}\r\nAuthorization: Bearer {{token}}\r\n"));
    all.push(good.to_owned() + &"X: y\r\n".repeat(100));
    all
}

/// Invalid request lines, and those that name another service.
fn lines() -> Vec<String> {
    let mut all: Vec<String> = [
        "POST http://evil.example/v1/images/generations",
        "POST //evil.example/v1/images/generations",
        "POST /v1/images/generations/../generations",
        "POST /v1/images/generations%00",
        "POST /v1/images/Generations",
        "POST /V1/images/generations",
        "PUT /v1/images/generations",
        "PATCH /v1/images/generations",
        "DELETE /v1/images/generations",
        "GET /v1/images/generations",
        "TRACE /v1/images/generations",
        "CONNECT 127.0.0.1:80",
        "POST v1/images/generations",
        "POST  /v1/images/generations",
        "post /v1/images/generations",
        "P\u{f6}ST /v1/images/generations",
        "POST /v1/images/generations\u{7f}",
        "POST /v1/images/edits",
        "POST /v1/chat/completions",
        "GET /files/../../http.token",
        "GET /files/%2e%2e%2fhttp.token",
        "GET /http.token",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("POST /{}", "a".repeat(70_000)));
    all
}

/// Invalid credentials.
fn credentials() -> Vec<String> {
    let length = BODY.len();
    let rest = format!(
        "Host: {{host}}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n"
    );
    let mut all = vec![rest.clone()];
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer {token}x",
        "bearer {token} x",
        "{token}",
        "Basic {token}",
        "Basic Og==",
        "Basic !!!!",
        "Digest {token}",
        "Token {token}",
        "Bearer\t{token}",
        "Bearer null",
        "Bearer undefined",
        "Bearer sk-0123456789abcdef0123456789abcdef",
        "Bearer ..",
        "Bearer {token}\u{80}",
    ] {
        all.push(format!("{rest}Authorization: {value}\r\n"));
    }
    all.push(format!("{rest}X-Api-Key: {{token}}\r\n"));
    all.push(format!("{rest}Cookie: token={{token}}\r\n"));
    all
}

/// Bodies without a valid request.
fn bodies() -> Vec<String> {
    let mut all: Vec<String> = [
        "{",
        "[]",
        "null",
        "3",
        "\"x\"",
        "{}",
        "{\"prompt\":3}",
        "{\"prompt\":null}",
        "{\"prompt\":[\"x\"]}",
        "{\"prompt\":\"x\"}{}",
        "{\"prompt\":\"x\",\"n\":0}",
        "{\"prompt\":\"x\",\"n\":11}",
        "{\"prompt\":\"x\",\"n\":1e9}",
        "{\"prompt\":\"x\",\"n\":-1}",
        "{\"prompt\":\"x\",\"size\":\"1x1\"}",
        "{\"prompt\":\"x\",\"size\":\"99999999999x1\"}",
        "{\"prompt\":\"x\",\"size\":\"-16x16\"}",
        "{\"prompt\":\"x\",\"size\":\"axb\"}",
        "{\"prompt\":\"x\",\"size\":\"4096x4096\"}",
        "{\"prompt\":\"x\",\"width\":16}",
        "{\"prompt\":\"x\",\"steps\":-1}",
        "{\"prompt\":\"x\",\"steps\":4294967296}",
        "{\"prompt\":\"x\",\"seed\":\"1\"}",
        "{\"prompt\":\"x\",\"seed\":18446744073709551616}",
        "{\"prompt\":\"x\",\"guidance_scale\":\"nan\"}",
        "{\"prompt\":\"x\",\"guidance_scale\":1e308}",
        "{\"prompt\":\"x\",\"output_format\":\"gif\"}",
        "{\"prompt\":\"x\",\"output_compression\":101}",
        "{\"prompt\":\"x\",\"background\":\"transparent\"}",
        "{\"prompt\":\"x\",\"stream\":1}",
        "{\"prompt\":\"x\",\"partial_images\":4}",
        "{\"prompt\":\"x\",\"stream\":true,\"async\":true}",
        "{\"prompt\":\"x\",\"timeout\":0}",
        "{\"prompt\":\"x\",\"timeout\":-1}",
        "{\"prompt\":\"x\",\"priority\":\"root\"}",
        "{\"prompt\":\"x\",\"model\":\"../../etc/passwd\"}",
        "{\"prompt\":\"x\",\"model\":3}",
        "{\"prompt\":\"x\",\"response_format\":\"file\"}",
        "{\"prompt\":\"\\ud800\"}",
        "\u{feff}{\"prompt\":\"x\"}",
        "{\"prompt\":\"x\",\"user\":{}}",
    ]
    .map(str::to_owned)
    .into();
    all.push("[".repeat(100_000));
    all.push(format!("{{\"prompt\":{}", "[".repeat(100_000)));
    all.push(format!("{{\"prompt\":\"{}\"}}", "x".repeat((1 << 20) + 1)));
    all.push(format!("{{\"prompt\":\"{}\"}}", "x".repeat(70_000)));
    all
}

#[test]
fn no_request_of_a_hostile_page_or_a_broken_client_is_accepted() {
    let door = OpenDoor::open();
    let mut requests = Vec::new();
    for head in of_pages()
        .into_iter()
        .chain(of_forms())
        .chain(of_smugglers())
        .chain(credentials())
    {
        requests.push(door.request(LINE, &head, BODY));
    }
    let good = headers("{host}", "", "application/json", &BODY.len().to_string());
    requests.extend(lines().iter().map(|line| door.request(line, &good, BODY)));
    for body in bodies() {
        let head = headers("{host}", "", "application/json", &body.len().to_string());
        requests.push(door.request(LINE, &head, &body));
    }
    assert!(requests.len() >= 200, "{}", requests.len());
    for request in &requests {
        for status in door.statuses(request.as_bytes()) {
            let shown: String = request.chars().take(600).collect();
            assert!((400..500).contains(&status), "{status} for {shown:?}");
        }
    }
    assert_eq!(
        door.daemon.stderr.with("Job accepted"),
        Vec::<String>::new()
    );
    let drawn = door.statuses(door.request(LINE, &good, BODY).as_bytes());
    assert_eq!(
        drawn,
        [200],
        "the daemon goes on, and the good request is good"
    );
}

#[test]
fn clients_that_send_their_request_too_slowly_are_disconnected() {
    let door = OpenDoor::open();
    let good = headers("{host}", "", "application/json", &BODY.len().to_string());
    let request = door.request(LINE, &good, BODY);
    let ends = [0, 1, 20, request.len() - BODY.len() - 1, request.len() - 1];
    let streams: Vec<TcpStream> = ends
        .iter()
        .map(|end| {
            let mut stream = TcpStream::connect(door.address).expect("the door is open");
            stream
                .write_all(&request.as_bytes()[..*end])
                .expect("it is read");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream
        })
        .collect();
    for (mut stream, end) in streams.into_iter().zip(ends) {
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .expect("the other side closes");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "after {end} bytes: {answer}"
        );
    }
    assert_eq!(door.statuses(request.as_bytes()), [200]);
}
