//! Clients that send anything but frames, or never read: the daemon serves the others.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use ipc_protocol::frame;
use ipc_protocol::messages::client::ToPool;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use ipc_protocol::version::PROTOCOL;
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::program::PATIENCE;
use tests::{processes, rounds, turn, wait};

const SETTINGS: &str =
    "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 5, load_ms = 1, weights_mb = 1 }\n";

fn encoded(message: &ToPool) -> Vec<u8> {
    frame::encode(message).expect("a frame")
}

/// Bytes of a client that has lost its mind, after a decent beginning or none.
fn rubbish(chance: &mut Chance) -> Vec<u8> {
    let hello = encoded(&ToPool::Hello { protocol: PROTOCOL });
    let generate = encoded(&ToPool::Generate(request("syn", 2, 1)));
    let count = chance.below(300) as usize;
    let noise = chance.bytes(count);
    let cut = chance.below(generate.len() as u64) as usize;
    match chance.below(6) {
        0 => noise,
        1 => [hello, noise].concat(),
        2 => [hello, generate[..cut].to_vec()].concat(),
        3 => [hello, generate, noise].concat(),
        4 => [hello, b"IMGP\x02\x00\x00\x00\xff\xff\xff\xff".to_vec()].concat(),
        _ => generate,
    }
}

#[test]
fn bytes_that_are_not_frames_end_their_own_conversation_only() {
    let _turn = turn::take();
    let daemon = TestDaemon::start(SETTINGS);
    let wanted = request("syn", 4, 3);
    let undisturbed = daemon.draw(&wanted).expect("a good request");
    let workers = daemon.worker_pids();
    let settled = || processes::descriptors(daemon.pid()).len();
    let before = settled();
    let mut chance = Chance::new(5);
    for _ in 0..rounds::rounds("clients out of their minds", 300) {
        let mut socket = UnixStream::connect(daemon.sandbox.socket()).expect("it serves");
        // It may hang up before it has heard everything.
        let _ = socket.write_all(&rubbish(&mut chance));
        let _ = socket.shutdown(Shutdown::Write);
        // The daemon hangs up too: this ends, whatever it says before.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let picture = daemon.draw(&wanted).expect("a good request");
    assert!(picture.rgb8 == undisturbed.rgb8);
    assert_eq!(daemon.worker_pids(), workers);
    assert!(
        wait::until(PATIENCE, || settled() <= before),
        "{before} descriptors before, now {:?}",
        processes::descriptors(daemon.pid())
    );
}

#[test]
fn a_client_that_never_reads_its_pictures_delays_no_other() {
    let daemon = TestDaemon::start(SETTINGS);
    let mut deaf = UnixStream::connect(daemon.sandbox.socket()).expect("it serves");
    let size = Some(PictureSize {
        width: 1024,
        height: 1024,
    });
    let many = ImageRequest {
        size,
        count: 10,
        ..request("syn", 1, 1)
    };
    for message in [ToPool::Hello { protocol: PROTOCOL }, ToPool::Generate(many)] {
        deaf.write_all(&encoded(&message)).expect("it listens");
    }
    let all_drawn = || {
        let status = daemon.status();
        status.queue.is_empty()
            && status
                .workers
                .iter()
                .map(|worker| worker.jobs_done)
                .sum::<u64>()
                >= 10
    };
    assert!(wait::until(PATIENCE, all_drawn), "{:?}", daemon.status());
    daemon.draw(&request("syn", 4, 3)).expect("a good request");
}
