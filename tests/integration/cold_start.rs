//! Fifty at once find nothing running: two workers are started, not fifty.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tests::daemon::TestDaemon;
use tests::program::ProgramOutput;
use tests::turn;

const CLIENTS: usize = 50;

#[test]
fn fifty_concurrent_first_requests_start_two_workers_and_never_more_than_four() {
    let _turn = turn::take();
    let daemon = TestDaemon::start("");
    let outputs = storm(&daemon);
    let lines = daemon.stderr.all();
    let spawned = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| line.contains(" Spawned worker "))
            .count()
    };
    let ready = lines.iter().position(|line| line.contains("Worker ready"));
    assert_eq!(
        spawned(&lines[..ready.expect("one got ready")]),
        2,
        "{lines:#?}"
    );
    assert!(spawned(&lines) <= 4, "{lines:#?}");
    assert_answers(&outputs);
}

#[test]
fn with_room_for_two_there_are_two_in_all() {
    let _turn = turn::take();
    let daemon = TestDaemon::start("[pool]\nmax_workers_per_model = 2");
    let outputs = storm(&daemon);
    assert_eq!(daemon.stderr.with("Spawned worker").len(), 2);
    assert_answers(&outputs);
}

/// Starts all clients, and looks at the books until the last one has its answer.
fn storm(daemon: &TestDaemon) -> Vec<ProgramOutput> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut samples = 0;
            while !over.load(Ordering::Acquire) {
                assert_books_hold(daemon);
                samples += 1;
            }
            samples
        });
        let calls: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (seed, file) = (client.to_string(), format!("{client}.png"));
                daemon.imagepool_begun(&["generate", "a red star", "--seed", &seed, "-o", &file])
            })
            .collect();
        let outputs = calls.into_iter().map(|call| call.output()).collect();
        over.store(true, Ordering::Release);
        let samples = watcher.join().expect("the books hold");
        println!("{samples} snapshots of the books");
        assert!(samples > 10);
        outputs
    })
}

/// In one snapshot, what is promised is the sum of what the workers were promised.
fn assert_books_hold(daemon: &TestDaemon) {
    let status = daemon.status();
    for memory in &status.memory {
        let promised: u64 = status
            .workers
            .iter()
            .filter_map(|worker| worker.reserved_mb.get(&memory.device))
            .sum();
        assert_eq!(memory.reserved_mb, promised, "{status:?}");
        assert!(memory.reserved_mb <= memory.limit_mb, "{status:?}");
    }
}

fn assert_answers(outputs: &[ProgramOutput]) {
    let mut drawn = 0;
    for output in outputs {
        match output.code {
            0 => drawn += 1,
            75 => assert!(output.stderr.contains("queue full"), "{}", output.stderr),
            code => panic!("exit {code}: {}", output.stderr),
        }
    }
    println!("{drawn} of {CLIENTS} drawn, the others refused");
    assert!(drawn >= 20);
}
