//! A hub on the loopback: honest, or with one fault.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit of every repository here.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Most conversations at once; a test that needs more is wrong.
const CONVERSATIONS_MAX: usize = 64;

/// A mirror's fault in its answers to GET of a file; everything else is answered well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorFault {
    /// Nothing.
    None,
    /// Every request gets this status, and a page that quotes the request's token.
    Refuses(u16),
    /// The request for the bytes alone does.
    RefusesBytes(u16),
    /// Half of the requested bytes, then the end; the length is stated or not.
    Short { told: bool },
    /// The right number of other bytes.
    Wrong,
    /// One byte too many, without a length.
    Long,
    /// The connection is cut after this many bytes of each answer.
    Cut { after_bytes: usize },
    /// A pause before each of 16 pieces.
    Slow { pause: Duration },
    /// Headers, and then nothing.
    Silent,
    /// Ranges are not honoured: every answer is the whole file.
    NoRanges,
    /// Everything is at the mirror of this port, which sends its clients on once more.
    Elsewhere { port: u16 },
    /// The listing goes on at the mirror of this port.
    NextPage { port: u16 },
    /// The listing has this many files more.
    Listed { more: usize },
    /// The listing has no end.
    Endless,
    /// The commit of a revision is followed by this many bytes.
    Verbose { bytes: usize },
}

/// How it answers what is not a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Revisions and listings.
    Hub,
    /// Files alone, with digests for ETags.
    Plain,
    /// Files alone, with ETags that are not digests.
    Undigested,
}

/// One request.
#[derive(Debug, Clone)]
pub struct MirrorRequest {
    pub method: String,
    pub path: String,
    pub begin: Option<usize>,
    pub token: Option<String>,
    pub sent_bytes: usize,
}

/// The mirror; it listens until it is dropped.
pub struct Mirror {
    address: SocketAddr,
    shared: Arc<MirrorState>,
}

struct MirrorState {
    /// `owner/name/file` → content.
    files: BTreeMap<String, Vec<u8>>,
    fault: Mutex<MirrorFault>,
    manner: Manner,
    asked: Mutex<Vec<MirrorRequest>>,
    running: AtomicUsize,
    ended: AtomicBool,
}

impl Mirror {
    pub fn start(files: BTreeMap<String, Vec<u8>>, fault: MirrorFault, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(MirrorState {
            files,
            fault: Mutex::new(fault),
            manner,
            asked: Mutex::default(),
            running: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                let before = shared.running.fetch_add(1, Ordering::SeqCst);
                assert!(
                    before < CONVERSATIONS_MAX,
                    "more conversations than any test needs"
                );
                thread::spawn(move || {
                    // A client that leaves in the middle is what some tests are about.
                    let _ = converse(&shared, socket);
                    shared.running.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The names of all files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.shared.files.keys().map(String::as_str)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn mend(&self) {
        *self.shared.fault.lock().expect("no holder panics") = MirrorFault::None;
    }

    pub fn asked(&self) -> Vec<MirrorRequest> {
        self.shared.asked.lock().expect("no holder panics").clone()
    }

    /// The requests for bytes of files whose names end so.
    pub fn gets(&self, end: &str) -> Vec<MirrorRequest> {
        let wanted = |asked: &MirrorRequest| {
            asked.method == "GET" && asked.path.contains("/resolve/") && asked.path.ends_with(end)
        };
        self.asked().into_iter().filter(wanted).collect()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn converse(shared: &MirrorState, socket: TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let mut asked = MirrorRequest {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        begin: None,
        token: None,
        sent_bytes: 0,
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let begin = value.trim().trim_start_matches("bytes=").split('-').next();
                asked.begin = begin.and_then(|begin| begin.parse().ok());
            }
            "authorization" => asked.token = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let index = {
        let mut all = shared.asked.lock().expect("no holder panics");
        all.push(asked.clone());
        all.len() - 1
    };
    let sent = answer(shared, &asked, socket);
    let mut all = shared.asked.lock().expect("no holder panics");
    all[index].sent_bytes = sent;
    Ok(())
}

/// Answers; returns how many bytes of a file were sent.
fn answer(shared: &MirrorState, asked: &MirrorRequest, mut socket: TcpStream) -> usize {
    let fault = *shared.fault.lock().expect("no holder panics");
    let path = asked.path.split('?').next().unwrap_or_default();
    let token = asked.token.as_deref().unwrap_or("nobody");
    if let MirrorFault::Refuses(status) = fault {
        page(
            &mut socket,
            status,
            &format!("{{\"error\":\"not for {token}\"}}"),
            "",
        );
        return 0;
    }
    if let MirrorFault::Elsewhere { port } = fault {
        redirect(
            &mut socket,
            &format!("http://127.0.0.1:{port}/on{}", asked.path),
        );
        return 0;
    }
    if let Some(on) = asked.path.strip_prefix("/on/") {
        redirect(&mut socket, &format!("/{on}"));
        return 0;
    }
    if let (MirrorFault::Endless, true) = (fault, path.contains("/tree/")) {
        return endless(&mut socket);
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        match (shared.manner, listing(shared, rest)) {
            (Manner::Hub, Some(body)) => {
                let (body, headers) = with_fault(fault, path, body);
                page(&mut socket, 200, &body, &headers);
            }
            _ => page(&mut socket, 404, "{\"error\":\"no such thing\"}", ""),
        }
        return 0;
    }
    let Some((repository, rest)) = path.trim_start_matches('/').split_once("/resolve/") else {
        page(&mut socket, 404, "", "");
        return 0;
    };
    let name = rest.split_once('/').map_or("", |(_, name)| name);
    let Some(content) = shared.files.get(&format!("{repository}/{name}")) else {
        page(&mut socket, 404, "", "");
        return 0;
    };
    let etag = match shared.manner {
        Manner::Undigested => "\"5d41402a-9\"".to_owned(),
        Manner::Hub | Manner::Plain => format!("\"{}\"", hex(&Sha256::digest(content))),
    };
    let headers = format!("ETag: {etag}\r\nX-Repo-Commit: {COMMIT}\r\nAccept-Ranges: bytes\r\n");
    if asked.method == "HEAD" {
        let length = content.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = socket.write_all(head.as_bytes());
        return 0;
    }
    bytes(&mut socket, content, asked.begin, fault, &headers)
}

fn bytes(
    socket: &mut TcpStream,
    content: &[u8],
    begin: Option<usize>,
    fault: MirrorFault,
    headers: &str,
) -> usize {
    if let MirrorFault::RefusesBytes(status) = fault {
        page(socket, status, "<html>no such luck</html>", headers);
        return 0;
    }
    let begin = begin.filter(|_| fault != MirrorFault::NoRanges);
    let mut body = content[begin.unwrap_or(0)..].to_vec();
    let length = body.len();
    let mut told = true;
    match fault {
        MirrorFault::Short { told: tells } => {
            told = tells;
            body.truncate(length / 2);
        }
        MirrorFault::Wrong => body.iter_mut().for_each(|byte| *byte ^= 0x55),
        MirrorFault::Long => {
            told = false;
            body.push(0);
        }
        MirrorFault::Cut { after_bytes } => body.truncate(after_bytes),
        MirrorFault::None
        | MirrorFault::Elsewhere { .. }
        | MirrorFault::NextPage { .. }
        | MirrorFault::Listed { .. }
        | MirrorFault::Endless
        | MirrorFault::Verbose { .. }
        | MirrorFault::Refuses(_)
        | MirrorFault::RefusesBytes(_)
        | MirrorFault::Slow { .. }
        | MirrorFault::Silent
        | MirrorFault::NoRanges => {}
    }
    let status = if begin.is_some() {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    let length = match told {
        true => format!("Content-Length: {length}\r\n"),
        false => String::new(),
    };
    let head = format!("HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n");
    let pieces = body.len().div_ceil(16).max(1);
    if socket.write_all(head.as_bytes()).is_err() {
        return 0;
    }
    let mut sent = 0;
    for piece in body.chunks(pieces) {
        match fault {
            MirrorFault::Slow { pause } => thread::park_timeout(pause),
            MirrorFault::Silent => thread::park_timeout(Duration::from_secs(10)),
            _ => {}
        }
        if fault == MirrorFault::Silent || socket.write_all(piece).is_err() {
            break;
        }
        sent += piece.len();
    }
    sent
}

/// An answer about a repository, and its headers, with what is wrong with them.
fn with_fault(fault: MirrorFault, path: &str, body: String) -> (String, String) {
    let is_tree = path.contains("/tree/");
    match fault {
        MirrorFault::NextPage { port } if is_tree => {
            let next = format!("http://127.0.0.1:{port}{path}?page=2");
            (body, format!("Link: <{next}>; rel=\"next\"\r\n"))
        }
        MirrorFault::Listed { more } if is_tree => {
            let entry = r#"{"type":"directory","oid":"0","path":"a"}"#;
            let entries = vec![entry; more].join(",");
            (format!("[{entries},{}", &body[1..]), String::new())
        }
        MirrorFault::Verbose { bytes } if !is_tree => {
            let padding = "x".repeat(bytes);
            (
                format!("{{\"padding\":\"{padding}\",{}", &body[1..]),
                String::new(),
            )
        }
        _ => (body, String::new()),
    }
}

/// Sends a listing without end until the reader stops; returns its bytes.
fn endless(socket: &mut TcpStream) -> usize {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n[";
    let entry = r#"{"type":"directory","oid":"0","path":"a"},"#.repeat(1000);
    let mut sent = 0;
    let mut next = head.as_bytes();
    while socket.write_all(next).is_ok() {
        sent += next.len();
        next = entry.as_bytes();
    }
    sent
}

fn redirect(socket: &mut TcpStream, to: &str) {
    page(socket, 302, "", &format!("Location: {to}\r\n"));
}

fn page(socket: &mut TcpStream, status: u16, body: &str, headers: &str) {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} So\r\n{headers}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // Who does not wait for the page does not want it.
    let _ = socket.write_all(text.as_bytes());
}

/// `owner/name/revision/main` and `owner/name/tree/COMMIT`, as the hub answers them.
fn listing(shared: &MirrorState, rest: &str) -> Option<String> {
    let mut parts = rest.splitn(4, '/');
    let repository = format!("{}/{}", parts.next()?, parts.next()?);
    let files = shared.files.iter().filter_map(|(path, content)| {
        let name = path.strip_prefix(&repository)?.strip_prefix('/')?;
        Some((name, content))
    });
    match parts.next()? {
        "revision" => Some(format!(
            "{{\"_id\":\"1\",\"id\":\"{repository}\",\"sha\":\"{COMMIT}\"}}"
        )),
        "tree" => {
            let entries: Vec<_> = files.map(|(name, content)| entry(name, content)).collect();
            Some(format!("[{}]", entries.join(",")))
        }
        _ => None,
    }
}

/// Weights are large files, whose listed id is that of their pointer; the rest is in git itself.
fn entry(name: &str, content: &[u8]) -> String {
    let size = content.len();
    // As JSON writes it.
    let name = serde_json::Value::from(name).to_string();
    let name = name.trim_matches('"');
    if !name.to_string().ends_with(".safetensors") {
        let oid = git_id(content);
        return format!(r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{name}"}}"#);
    }
    let sha256 = hex(&Sha256::digest(content));
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    let oid = git_id(pointer.as_bytes());
    format!(
        r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{name}","lfs":{{"oid":"{sha256}","size":{size},"pointerSize":{}}}}}"#,
        pointer.len()
    )
}

fn git_id(content: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hash.update(content);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
