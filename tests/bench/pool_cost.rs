//! The pool's own cost for a picture, beside other servers that answer with as many bytes.
//!
//! ```text
//! bench-pool-cost [NAME=HOST:PORT/PATH]…     servers that answer a POST with the bytes of a picture
//! ```
//! Prints a line of JSON per number of clients. Times are milliseconds per picture: of one client, the median from
//! request to last byte; of several, the time of all divided by the number of pictures. The drawing itself is measured
//! in this process, in the same rounds, and not counted as a cost.

use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use serde_json::{Map, Value, json};
use tests::daemon::TestDaemon;
use tests::http::HttpClient;
use tests::job::{draw, request};
use tests::times::{SortedTimes, hundredths, ms};
use tests::wait;
use worker::pipelines::families::synthetic::SyntheticModel;
use worker::pipelines::{JobParameters, Pipeline};

const SETTINGS: &str = "[pool]\nqueue_per_model = 100\ncold_start_workers = 1\nmax_workers_per_model = 1\n[models.syn]\nfamily = \"synthetic\"\n\
    params = { step_ms = 0, load_ms = 0, weights_mb = 1 }\n";
const SIDE: u32 = 1024;
const CLIENTS: [usize; 3] = [1, 8, 64];
/// Rounds in which all take their turn once.
const ROUNDS: u64 = 9;
/// Pictures of one turn.
const PICTURES: usize = 64;

/// Another server.
struct OtherServer {
    name: String,
    client: HttpClient,
    path: String,
}

impl OtherServer {
    /// Reads `NAME=HOST:PORT/PATH`.
    fn parse(text: &str) -> Option<Self> {
        let (name, place) = text.split_once('=')?;
        let (address, path) = place.split_once('/')?;
        let address: SocketAddr = address.to_socket_addrs().ok()?.next()?;
        Some(Self {
            name: name.to_owned(),
            client: HttpClient::tcp(address),
            path: format!("/{path}"),
        })
    }

    fn answer(&self) {
        let reply = self.client.post(&self.path, &json!({"prompt": "a cube"}));
        assert_eq!(reply.status, 200, "{}", self.name);
        assert_eq!(reply.body.len(), bytes(), "{}", self.name);
    }
}

fn main() {
    let peers: Vec<OtherServer> = std::env::args()
        .skip(1)
        .map(|text| {
            OtherServer::parse(&text)
                .unwrap_or_else(|| panic!("{text:?} is not NAME=HOST:PORT/PATH"))
        })
        .collect();
    let daemon = TestDaemon::start(SETTINGS);
    daemon.draw(&asked(0)).expect("it is drawn");
    for clients in CLIENTS {
        println!("{}", compared(&daemon, &peers, clients));
    }
}

/// The times of everyone with this many clients.
fn compared(daemon: &TestDaemon, peers: &[OtherServer], clients: usize) -> Value {
    let mut drawing = Vec::new();
    let mut pool = Vec::new();
    let mut others = vec![Vec::new(); peers.len()];
    for round in 0..ROUNDS {
        drawing.push(turn(1, || (), |()| drawn_here(round)));
        pool.push(turn(
            clients,
            || daemon.client(),
            |client| {
                let picture = draw(client, &asked(round), |_, _| {}).expect("it is drawn");
                assert_eq!(picture.rgb8.len(), bytes());
            },
        ));
        for (peer, times) in peers.iter().zip(&mut others) {
            times.push(turn(clients, || (), |()| peer.answer()));
        }
    }
    let [drawing, pool] = [drawing, pool].map(median_ms);
    let mut line = Map::new();
    line.insert("bench".into(), json!("pool_cost"));
    line.insert("clients".into(), json!(clients));
    line.insert("rounds".into(), json!(ROUNDS));
    line.insert("drawing_ms".into(), json!(hundredths(drawing)));
    line.insert("native_ms".into(), json!(hundredths(pool)));
    line.insert("native_cost_ms".into(), json!(hundredths(pool - drawing)));
    for (peer, times) in peers.iter().zip(others) {
        let peer_ms = median_ms(times);
        line.insert(format!("{}_ms", peer.name), json!(hundredths(peer_ms)));
        let ratio = hundredths((pool - drawing) / peer_ms);
        line.insert(format!("cost_to_{}", peer.name), json!(ratio));
    }
    Value::Object(line)
}

/// Draws [`PICTURES`] with this many clients at a time. Returns the time per picture.
fn turn<C>(
    clients: usize,
    connect: impl Fn() -> C + Sync,
    ask: impl Fn(&mut C) + Sync,
) -> Duration {
    let each = PICTURES / clients;
    let (times, all) = wait::timed(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..clients)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = connect();
                        let ask = |_| wait::timed(|| ask(&mut client)).1;
                        (0..each).map(ask).collect::<Vec<Duration>>()
                    })
                })
                .collect();
            let times = threads
                .into_iter()
                .map(|thread| thread.join().expect("no client failed"));
            times.flatten().collect::<Vec<Duration>>()
        })
    });
    match clients {
        1 => SortedTimes::from_iter(times).percentile(50),
        _ => all / (each * clients) as u32,
    }
}

/// Draws the picture that the daemon's worker draws, in this process.
fn drawn_here(seed: u64) {
    let mut model = SyntheticModel::load(0, 0, 1, &mut |_| {});
    let request = asked(seed);
    let job = JobParameters {
        prompt: request.prompt,
        negative: None,
        width: SIDE,
        height: SIDE,
        steps: 1,
        guidance: 0.0,
        seed,
    };
    let mut denoising = model.start(&job, None).expect("a good job");
    denoising.step(&|| false).expect("a step");
    let picture = denoising.decode().expect("a picture");
    assert_eq!(picture.bytes.len(), bytes());
}

fn asked(seed: u64) -> ImageRequest {
    ImageRequest {
        size: Some(PictureSize {
            width: SIDE,
            height: SIDE,
        }),
        ..request("syn", 1, seed)
    }
}

const fn bytes() -> usize {
    SIDE as usize * SIDE as usize * 3
}

/// The median in milliseconds.
fn median_ms(times: Vec<Duration>) -> f64 {
    ms(SortedTimes::from_iter(times).percentile(50))
}
