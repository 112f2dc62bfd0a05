//! A small HTTP/1.1 client: whole replies, streamed events, and clients that leave.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::daemon::TestDaemon;
use crate::program::PATIENCE;

/// A client of one HTTP door. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct HttpClient {
    place: HttpPlace,
    host: String,
    /// Headers of every request.
    headers: Vec<(String, String)>,
}

/// Where a door listens.
#[derive(Debug, Clone)]
enum HttpPlace {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A whole reply.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// Its status code.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A request that was sent. Dropping it closes the connection, as a client does that leaves.
pub struct HttpExchange {
    reader: BufReader<Box<dyn Connection>>,
}

/// The head of a reply, and its body as it arrives.
pub struct HttpStream {
    /// Its status code.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    body: BufReader<BodyReader>,
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerEvent {
    /// Its name; empty if it has none.
    pub name: String,
    /// Its data, parsed.
    pub data: Value,
}

/// A connection of either kind.
trait Connection: Read + Write + Send {}

impl Connection for UnixStream {}
impl Connection for TcpStream {}

impl HttpClient {
    /// A client of a Unix socket.
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self {
            place: HttpPlace::Unix(socket.into()),
            host: "localhost".into(),
            headers: Vec::new(),
        }
    }

    /// A client of a TCP socket.
    pub fn tcp(address: SocketAddr) -> Self {
        Self {
            place: HttpPlace::Tcp(address),
            host: address.to_string(),
            headers: Vec::new(),
        }
    }

    /// Sends this header with every request.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a bearer token with every request.
    pub fn with_token(self, token: &str) -> Self {
        self.with("Authorization", &format!("Bearer {token}"))
    }

    /// Sends a user name and a password with every request.
    pub fn with_password(self, user: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        self.with("Authorization", &format!("Basic {pair}"))
    }

    /// Names this host in every request.
    pub fn naming(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// `GET path`, and its whole reply.
    pub fn get(&self, path: &str) -> HttpReply {
        self.send("GET", path, None).reply()
    }

    /// `POST path` with JSON, and its whole reply.
    pub fn post(&self, path: &str, body: &Value) -> HttpReply {
        self.send("POST", path, Some(body)).reply()
    }

    /// Sends a request and waits for nothing.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> HttpExchange {
        let body = body.map(Value::to_string);
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.host
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &body {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        self.send_raw(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes())
    }

    /// Sends these bytes on a new connection.
    pub fn send_raw(&self, bytes: &[u8]) -> HttpExchange {
        let mut connection = self.connect().expect("the door accepts clients");
        // A door that has refused the request already does not read the rest of it.
        let _ = connection.write_all(bytes);
        HttpExchange {
            reader: BufReader::new(connection),
        }
    }

    fn connect(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match &self.place {
            HttpPlace::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            HttpPlace::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }
}

impl HttpExchange {
    /// Waits for the whole reply.
    pub fn reply(self) -> HttpReply {
        let mut stream = self.stream();
        let mut body = Vec::new();
        let read = stream.body.read_to_end(&mut body);
        read.expect("the whole body arrives");
        HttpReply {
            status: stream.status,
            headers: stream.headers,
            body,
        }
    }

    /// Waits for the head of the reply.
    pub fn stream(mut self) -> HttpStream {
        let mut line = || {
            read_line(&mut self.reader)
                .expect("a reply")
                .unwrap_or_default()
        };
        let first = line();
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut headers = Vec::new();
        while let Some((name, value)) = line().split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let framing = match find(&headers, "transfer-encoding") {
            Some(_) => Framing::Chunks { left: 0 },
            None => Framing::Bytes(find(&headers, "content-length").map_or(u64::MAX, |length| {
                length.parse().expect("a length is a number")
            })),
        };
        HttpStream {
            status: status.expect("a status line"),
            headers,
            body: BufReader::new(BodyReader {
                inner: self.reader,
                framing,
            }),
        }
    }
}

impl HttpReply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The body as JSON, if the status is 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

impl HttpStream {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Waits for the next event; `None` at the end. Comments are skipped.
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = read_line(&mut self.body).expect("the stream goes on")?;
            match line.split_once(':') {
                Some(("event", value)) => name = value.trim().to_owned(),
                Some(("data", value)) => data += value.trim(),
                None if !data.is_empty() => {
                    let data = serde_json::from_str(&data).expect("the data of events is JSON");
                    return Some(ServerEvent { name, data });
                }
                Some(_) | None => {}
            }
        }
    }
}

/// How the end of a body is found.
#[derive(Debug)]
enum Framing {
    /// This many bytes are left.
    Bytes(u64),
    /// Chunks; of the present one so much is left.
    Chunks { left: u64 },
}

/// A body without its framing.
struct BodyReader {
    inner: BufReader<Box<dyn Connection>>,
    framing: Framing,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunks { left: 0 } = self.framing {
            self.framing = self.next_chunk()?;
        }
        let (Framing::Bytes(left) | Framing::Chunks { left }) = &mut self.framing;
        let most = buffer
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        *left -= read as u64;
        if let Framing::Chunks { left: 0 } = self.framing
            && read > 0
        {
            // The line break after a chunk.
            self.inner.read_exact(&mut [0; 2])?;
        }
        Ok(read)
    }
}

impl BodyReader {
    fn next_chunk(&mut self) -> io::Result<Framing> {
        let line = read_line(&mut self.inner)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default();
        match u64::from_str_radix(size, 16) {
            Ok(0) => Ok(Framing::Bytes(0)),
            Ok(left) => Ok(Framing::Chunks { left }),
            Err(error) => Err(io::Error::other(format!("{line:?}: {error}"))),
        }
    }
}

/// A line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = reader.read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(given, _)| given == name);
    found.map(|(_, value)| value.as_str())
}

/// The bytes of a base64 text without line breaks or a `data:` prefix.
pub fn from_base64(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap_or_else(|| panic!("{text} is no text"));
    STANDARD.decode(text).expect("plain base64")
}

impl TestDaemon {
    /// A client of its HTTP door on the Unix socket.
    pub fn http(&self) -> HttpClient {
        HttpClient::unix(self.sandbox.runtime_dir().join("http.sock"))
    }

    /// A client of its HTTP door on TCP, without a token; the settings say `listen = "127.0.0.1:0"`.
    pub fn http_tcp(&self) -> HttpClient {
        let line = self.stderr.wait_for("HTTP door open", 1, PATIENCE);
        let address = line
            .split(' ')
            .find_map(|word| word.strip_prefix("address="));
        let address = address.and_then(|address| address.trim_matches('"').parse().ok());
        HttpClient::tcp(address.unwrap_or_else(|| panic!("no address in {line:?}")))
    }

    /// The token with every right that it made for TCP.
    pub fn http_token(&self) -> String {
        let file = self.sandbox.runtime_dir().join("http.token");
        let token = std::fs::read_to_string(file).expect("the daemon made a token");
        token.trim().to_owned()
    }
}
