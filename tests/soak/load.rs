//! The load: clients of every kind, one after the other, and a worker killed now and then.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc_protocol::client::Update;
use ipc_protocol::failure::FailureKind;
use ipc_protocol::frame;
use ipc_protocol::messages::client::ToPool;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use ipc_protocol::version::PROTOCOL;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::http::HttpClient;
use tests::job::{draw, request, wait_for};
use tests::{processes, wait};

/// Two synthetic models and a real one, whose workers stay. What is kept for later is bounded, so that the bounds are reached
/// while the daemon warms up.
pub const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nresult_seconds = 30\n[limits]\nresult_mb = 4\n\
    [models.quick]\nfamily = \"synthetic\"\nmin_workers = 2\nmax_workers = 2\nparams = { step_ms = 2, load_ms = 1, weights_mb = 1 }\n\
    [models.slow]\nfamily = \"synthetic\"\nmin_workers = 1\nmax_workers = 1\nparams = { step_ms = 10, load_ms = 50, weights_mb = 2 }\n\
    [models.pocket-flux]\nthreads = 1\nmin_workers = 1\nmax_workers = 1\n";
/// Workers of these settings.
pub const WORKERS: usize = 4;
/// Between two clients.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two kills, on average.
const BETWEEN_KILLS: Duration = Duration::from_secs(4);
/// The same while the daemon warms up. The newest lines of its log and of each worker's are kept, up to a number of bytes; at the
/// usual pace it takes hours until these are full, and a daemon that fills them is no daemon that leaks.
const BETWEEN_KILLS_AT_FIRST: Duration = Duration::from_millis(200);
/// One client in this number draws with the real model.
const REAL: u64 = 50;

/// Counts of clients and kills.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadCounts {
    pub attached: u64,
    pub detached: u64,
    pub over_http: u64,
    pub cancelled: u64,
    pub left: u64,
    pub kills: u64,
    /// Pictures that needed more than one worker.
    pub resumed: u64,
}

/// The clients, and the bytes that their requests must give.
pub struct Load<'a> {
    daemon: &'a TestDaemon,
    chance: Chance,
    /// Requests with their pictures of undisturbed jobs.
    known: Vec<(ImageRequest, Vec<u8>)>,
    real: (ImageRequest, Vec<u8>),
    pub counts: LoadCounts,
    since_kill: Duration,
    between_kills: Duration,
    /// How many times more often than usual something happens.
    pace: u32,
}

/// `IMAGEPOOL_SOAK_PACE` where it is set.
fn pace() -> u32 {
    let pace = std::env::var("IMAGEPOOL_SOAK_PACE").map_or(1, |text| {
        text.parse().expect("IMAGEPOOL_SOAK_PACE is a number")
    });
    println!("{pace} times the usual pace");
    pace
}

fn small(model: &str, steps: u32, seed: u64) -> ImageRequest {
    let size = PictureSize {
        width: 64,
        height: 64,
    };
    ImageRequest {
        size: (model != "pocket-flux").then_some(size),
        ..request(model, steps, seed)
    }
}

impl<'a> Load<'a> {
    /// Draws every picture once, undisturbed.
    pub fn begin(daemon: &'a TestDaemon) -> Self {
        let draw = |wanted: ImageRequest| {
            let picture = daemon.draw(&wanted).expect("an undisturbed job");
            (wanted, picture.rgb8)
        };
        let wanted = (0..4).map(|seed| small("quick", 10 + 5 * seed as u32, seed));
        let slow = (0..2).map(|seed| small("slow", 5 + 10 * seed as u32, seed));
        Self {
            daemon,
            chance: Chance::new(29),
            known: wanted.chain(slow).map(draw).collect(),
            real: draw(small("pocket-flux", 2, 1)),
            counts: LoadCounts::default(),
            since_kill: Duration::ZERO,
            between_kills: BETWEEN_KILLS_AT_FIRST,
            pace: pace(),
        }
    }

    /// Ends the warm-up.
    pub fn settle(&mut self) {
        self.between_kills = BETWEEN_KILLS;
    }

    /// One client after a pause, and sometimes a kill.
    pub fn go_on(&mut self) {
        let pause = self.chance.moment(PAUSE * 2);
        wait::moments_of_chance(pause / self.pace);
        self.since_kill += pause;
        if self.since_kill >= self.between_kills {
            self.since_kill = Duration::ZERO;
            self.kill();
        }
        if self.chance.below(REAL) == 0 {
            return self.attach(None);
        }
        let nth = self.chance.below(self.known.len() as u64) as usize;
        match self.chance.below(10) {
            0..3 => self.attach(Some(nth)),
            3..5 => self.detach(nth),
            5..7 => self.post(nth),
            7 => self.cancel(),
            8 => self.leave(),
            _ => drop(self.daemon.status()),
        }
    }

    fn attach(&mut self, nth: Option<usize>) {
        let (wanted, bytes) = nth.map_or(&self.real, |nth| &self.known[nth]);
        let picture = self.daemon.draw(wanted).expect("no job is lost");
        assert!(picture.rgb8 == *bytes, "{wanted:?}: other bytes");
        self.counts.attached += 1;
        self.counts.resumed += u64::from(picture.report.attempts > 1);
    }

    fn detach(&mut self, nth: usize) {
        let (wanted, bytes) = &self.known[nth];
        let detached = ImageRequest {
            detached: true,
            ..wanted.clone()
        };
        let mut client = self.daemon.client();
        let job = client.generate(&detached).expect("there is room");
        let job = job.accepted.first;
        // Another connection, as of a client that was away.
        let mut client = self.daemon.client();
        let picture = wait_for(&mut client, job);
        let picture = picture.unwrap_or_else(|failure| panic!("job {job}: {failure}"));
        assert!(picture.rgb8 == *bytes, "{wanted:?}: other bytes");
        self.counts.detached += 1;
    }

    fn post(&mut self, nth: usize) {
        let (wanted, _) = &self.known[nth];
        let door = HttpClient::unix(self.daemon.sandbox.runtime_dir().join("http.sock"));
        let body = json!({
            "prompt": wanted.prompt, "model": wanted.model, "steps": wanted.steps, "seed": wanted.seed, "size": "64x64",
        });
        let reply = door.post("/v1/images/generations", &body);
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{text}");
        self.counts.over_http += 1;
    }

    /// A client that has seen enough after a step.
    fn cancel(&mut self) {
        let mut client = self.daemon.client();
        let canceller = client.canceller();
        let drawing = client.generate(&small("slow", 100, 77));
        let mut ended = None;
        for update in drawing.expect("there is room") {
            match update.expect("the daemon stays") {
                Update::Step { job, .. } => canceller.cancel(job).expect("it listens"),
                Update::Failed { failure, .. } => ended = Some(failure.kind),
                _ => {}
            }
        }
        assert_eq!(ended, Some(FailureKind::Cancelled));
        self.counts.cancelled += 1;
    }

    /// A client that goes without a word, with half a word, or in the middle of its job.
    fn leave(&mut self) {
        let mut socket = UnixStream::connect(self.daemon.sandbox.socket()).expect("it serves");
        let encoded = |message| frame::encode(&message).expect("a frame");
        let hello = encoded(ToPool::Hello { protocol: PROTOCOL });
        let ask = encoded(ToPool::Generate(small("slow", 100, 78)));
        let said = match self.chance.below(3) {
            0 => Vec::new(),
            1 => hello[..hello.len() / 2].to_vec(),
            _ => [hello, ask].concat(),
        };
        socket.write_all(&said).expect("it listens");
        self.counts.left += 1;
    }

    /// Kills a worker at rest, or one in the middle of a job.
    fn kill(&mut self) {
        self.counts.kills += 1;
        if self.chance.below(2) == 0 {
            let pids = self.daemon.worker_pids();
            let nth = self.chance.below(pids.len().max(1) as u64) as usize;
            return pids.get(nth).into_iter().for_each(|pid| strike(*pid));
        }
        let at = self.chance.below(4) as u32 + 1;
        let (wanted, bytes) = self.known.last().expect("there are several");
        let picture = draw(&mut self.daemon.client(), wanted, |job, step| {
            let worker = (step == at).then(|| self.daemon.worker_of(job)).flatten();
            worker
                .and_then(|worker| worker.pid)
                .into_iter()
                .for_each(strike);
        });
        let picture = picture.expect("no job is lost");
        assert!(picture.rgb8 == *bytes, "{wanted:?}: other bytes");
        self.counts.attached += 1;
        self.counts.resumed += u64::from(picture.report.attempts > 1);
    }
}

fn strike(pid: u32) {
    processes::signal(pid, Signal::SIGKILL);
}
