//! Fetching from good and bad hubs gives a correct file or a clear error, never a wrong file.

mod drawable;
mod home;
mod mirror;
mod missing;
mod on_request;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ipc_protocol::untrusted::is_obeyed;
use tests::binaries::Binaries;

use home::{CommandOutput, Home, TOKEN, assert_whole, flux_files, noise};
use mirror::{Manner, Mirror, MirrorFault};

const FETCH: [&str; 3] = ["models", "fetch", "flux-schnell"];
const KEY: &str = "flux-schnell";

fn faulty(fault: MirrorFault) -> Mirror {
    Mirror::start(flux_files(), fault, Manner::Hub)
}

#[test]
fn a_model_is_fetched_checked_found_again_verified_and_removed() {
    let mirror = faulty(MirrorFault::None);
    let home = Home::new(&mirror.endpoint(), "");
    let listed = home.run(&["models"]).ended_with(0).stdout;
    assert!(listed.contains("flux-schnell   missing"), "{listed}");
    let said = home.run(&FETCH).ended_with(0);
    assert!(said.stderr.starts_with("licence: Apache-2.0"), "{said:?}");
    let folder = home.published(KEY, "original");
    assert_whole(&folder);
    assert!(!home.unfinished(KEY, "original").exists());
    let requests = mirror.gets("").len();
    home.run(&FETCH).ended_with(0);
    assert_eq!(
        mirror.gets("").len(),
        requests,
        "nothing is transferred twice"
    );
    let listed = home.run(&["models", "list"]).ended_with(0).stdout;
    assert!(listed.contains("flux-schnell   fetched"), "{listed}");
    let shown = home.run(&["models", "show", KEY]).ended_with(0).stdout;
    assert!(
        shown.contains("sha256") && shown.contains("https://"),
        "{shown}"
    );
    home.run(&["models", "verify"]).ended_with(0);
    flip_a_bit(&folder.join("ae.safetensors"));
    let said = home.run(&["models", "verify", KEY]).ended_with(1);
    assert!(
        said.stdout.contains("ae.safetensors: has the SHA-256"),
        "{said:?}"
    );
    home.run(&["models", "rm", KEY]).ended_with(0);
    assert!(!folder.exists());
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[7] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(path, bytes).expect("ours");
}

#[test]
fn a_gated_repository_is_explained_and_its_answer_never_shows_the_token() {
    for fault in [
        MirrorFault::Refuses(401),
        MirrorFault::Refuses(403),
        MirrorFault::RefusesBytes(401),
        MirrorFault::RefusesBytes(403),
    ] {
        let mirror = faulty(fault);
        let home = Home::new(&mirror.endpoint(), "");
        let said = home.run(&FETCH).ended_with(4);
        let page = format!("{}/black-forest-labs/FLUX.1-schnell", mirror.endpoint());
        for word in [
            page.as_str(),
            "HF_TOKEN",
            "--variant ungated",
            "accept the licence",
        ] {
            assert!(said.stderr.contains(word), "{fault:?} {word}: {said:?}");
        }
        let sent = format!("Bearer {TOKEN}");
        assert!(
            mirror
                .asked()
                .iter()
                .all(|asked| asked.token.as_deref() == Some(&sent))
        );
        assert!(!home.published(KEY, "original").exists());
    }
}

#[test]
fn an_error_page_is_not_a_file() {
    for (fault, code) in [
        (MirrorFault::Refuses(500), 75),
        (MirrorFault::RefusesBytes(500), 75),
        (MirrorFault::RefusesBytes(404), 1),
    ] {
        let mirror = faulty(fault);
        let home = Home::new(&mirror.endpoint(), "");
        let said = home.run(&FETCH).ended_with(code);
        assert!(said.stderr.contains("the hub"), "{said:?}");
        assert!(!home.published(KEY, "original").exists());
        mirror.mend();
        home.run(&FETCH).ended_with(0);
        assert_whole(&home.published(KEY, "original"));
    }
}

#[test]
fn bytes_that_are_not_the_stated_ones_are_deleted_and_fetched_anew() {
    for fault in [MirrorFault::Wrong, MirrorFault::Long] {
        let mirror = faulty(fault);
        let home = Home::new(&mirror.endpoint(), "");
        let said = home.run(&FETCH).ended_with(1);
        assert!(
            said.stderr.contains("is not what the hub states"),
            "{said:?}"
        );
        let part = home
            .unfinished(KEY, "original")
            .join("flux1-schnell.safetensors.part");
        assert!(!part.exists(), "it would be taken up again for ever");
        mirror.mend();
        home.run(&FETCH).ended_with(0);
        assert_whole(&home.published(KEY, "original"));
    }
}

#[test]
fn a_body_that_is_too_short_is_taken_up_where_it_ended() {
    for fault in [
        MirrorFault::Short { told: true },
        MirrorFault::Short { told: false },
        MirrorFault::Cut {
            after_bytes: 700_000,
        },
    ] {
        let mirror = faulty(fault);
        let home = Home::new(&mirror.endpoint(), "");
        // Each try brings half of what is left, or a piece: that converges, or ends for now.
        let said = home.run(&FETCH);
        assert!(matches!(said.code, Some(0 | 75)), "{fault:?}: {said:?}");
        mirror.mend();
        home.run(&FETCH).ended_with(0);
        assert_whole(&home.published(KEY, "original"));
        let gets = mirror.gets("flux1-schnell.safetensors");
        assert!(
            gets.iter().skip(1).all(|asked| asked.begin.is_some()),
            "{gets:?}"
        );
    }
}

#[test]
fn a_mirror_that_brings_nothing_ends_in_a_sentence_that_says_so() {
    for fault in [MirrorFault::Cut { after_bytes: 0 }, MirrorFault::Silent] {
        let mirror = faulty(fault);
        let home = Home::new(&mirror.endpoint(), "patience_seconds = 0.3");
        let said = home.run(&FETCH).ended_with(75);
        assert!(said.stderr.contains("could not be transferred"), "{said:?}");
        assert!(!home.published(KEY, "original").exists());
    }
}

/// `IMAGEPOOL_TEST_SLOW_SECONDS=16` makes the body take longer than any usual timeout.
#[test]
fn a_slow_body_is_waited_for_as_long_as_something_comes() {
    let seconds = std::env::var("IMAGEPOOL_TEST_SLOW_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2.0);
    let pause = Duration::from_secs_f64(seconds / 16.0);
    let mirror = faulty(MirrorFault::Slow { pause });
    let home = Home::new(
        &mirror.endpoint(),
        &format!("patience_seconds = {}", seconds / 2.0),
    );
    home.run(&FETCH).ended_with(0);
    assert_whole(&home.published(KEY, "original"));
}

#[test]
fn a_mirror_without_ranges_is_asked_for_the_whole_file_again() {
    let mirror = faulty(MirrorFault::NoRanges);
    let home = Home::new(&mirror.endpoint(), "");
    let unfinished = home.unfinished(KEY, "original");
    fs::create_dir_all(&unfinished).expect("ours");
    let part = unfinished.join("flux1-schnell.safetensors.part");
    fs::write(&part, &noise(3_000_001)[..1_000_000]).expect("ours");
    home.run(&FETCH).ended_with(0);
    assert_whole(&home.published(KEY, "original"));
    let gets = mirror.gets("flux1-schnell.safetensors");
    assert_eq!(gets.len(), 2, "{gets:?}");
}

#[test]
fn four_processes_that_fetch_at_once_transfer_once() {
    let pause = Duration::from_millis(20);
    let mirror = faulty(MirrorFault::Slow { pause });
    let home = Home::new(&mirror.endpoint(), "");
    let children: Vec<_> = (0..4).map(|_| home.begin(&FETCH)).collect();
    let mut waited = 0;
    for child in children {
        let said =
            CommandOutput::of(child.wait_with_output().expect("our own child")).ended_with(0);
        waited += usize::from(said.stderr.contains("waiting for another process"));
    }
    assert!(waited >= 1, "at least one process waits");
    assert_eq!(mirror.gets("").len(), 4, "each of the four files once");
    assert_whole(&home.published(KEY, "original"));
}

#[test]
fn a_fetch_that_was_killed_is_taken_up_where_it_was() {
    let pause = Duration::from_millis(150);
    let mirror = faulty(MirrorFault::Slow { pause });
    let home = Home::new(&mirror.endpoint(), "");
    let mut child = home.begin(&FETCH);
    let part = home
        .unfinished(KEY, "original")
        .join("flux1-schnell.safetensors.part");
    while fs::metadata(&part).map_or(0, |found| found.len()) < 1_000_000 {
        thread::park_timeout(Duration::from_millis(10));
    }
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    mirror.mend();
    let said = home.run(&FETCH).ended_with(0);
    assert_whole(&home.published(KEY, "original"));
    let gets = mirror.gets("flux1-schnell.safetensors");
    assert_eq!(gets.len(), 2, "{gets:?}");
    let begin = gets[1].begin.expect("the second one asks for the rest");
    assert!(begin >= 1_000_000, "{gets:?}");
    assert_eq!(gets[1].sent_bytes, 3_000_001 - begin, "{said:?}");
}

#[test]
fn a_plain_mirror_of_files_will_do_when_it_states_digests() {
    let mirror = Mirror::start(flux_files(), MirrorFault::None, Manner::Plain);
    let home = Home::new(&mirror.endpoint(), "");
    home.run(&FETCH).ended_with(0);
    assert_whole(&home.published(KEY, "original"));
    let mirror = Mirror::start(flux_files(), MirrorFault::None, Manner::Undigested);
    let home = Home::new(&mirror.endpoint(), "");
    let said = home.run(&FETCH).ended_with(1);
    assert!(said.stderr.contains("states no SHA-256"), "{said:?}");
}

#[test]
fn a_listed_name_that_leads_out_of_the_folder_is_refused() {
    let repository = "black-forest-labs/FLUX.1-schnell";
    let mut files = flux_files();
    for name in ["model_index.json", "transformer/..\\..\\escape.json"] {
        files.insert(format!("{repository}/{name}"), noise(100));
    }
    let mirror = Mirror::start(files, MirrorFault::None, Manner::Hub);
    let home = Home::new(&mirror.endpoint(), "");
    let said = home
        .run(&["models", "fetch", KEY, "--variant", "diffusers"])
        .ended_with(2);
    assert!(
        said.stderr.contains("invalid name") && said.stderr.contains("escape.json"),
        "{said:?}"
    );
    assert!(mirror.gets("").is_empty());
}

#[test]
fn a_listed_name_that_a_terminal_would_obey_is_shown_escaped() {
    let repository = "black-forest-labs/FLUX.1-schnell";
    for obeyed in [
        '\u{1b}', '\r', '\n', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}',
    ] {
        let mut files = flux_files();
        for name in ["model_index.json", &format!("transformer/a{obeyed}b.json")] {
            files.insert(format!("{repository}/{name}"), noise(100));
        }
        let mirror = Mirror::start(files, MirrorFault::None, Manner::Hub);
        let home = Home::new(&mirror.endpoint(), "");
        for json in [&[][..], &["--json"]] {
            let fetch = [&["models", "fetch", KEY, "--variant", "diffusers"], json].concat();
            let said = home.run(&fetch).ended_with(2);
            assert!(said.stderr.contains("invalid name"), "{said:?}");
            let said = said.stdout + &said.stderr;
            let raw = |c: char| c != '\n' && is_obeyed(c);
            assert!(!said.contains(raw), "{said:?}");
        }
        assert!(mirror.gets("").is_empty());
    }
}

#[test]
fn the_token_goes_to_the_endpoint_alone_however_often_it_redirects() {
    // A plain mirror is asked with HEAD, a hub with GET alone.
    for manner in [Manner::Hub, Manner::Plain] {
        assert_token_stays_at_endpoint(manner);
    }
}

fn assert_token_stays_at_endpoint(manner: Manner) {
    let other = Mirror::start(flux_files(), MirrorFault::None, manner);
    let hub = faulty(MirrorFault::Elsewhere { port: other.port() });
    let home = Home::new(&hub.endpoint(), "");
    home.run(&FETCH).ended_with(0);
    assert_whole(&home.published(KEY, "original"));
    let sent = format!("Bearer {TOKEN}");
    let has_token = |asked: &mirror::MirrorRequest| asked.token.as_deref() == Some(&sent);
    assert!(hub.asked().iter().all(has_token));
    // The first redirect leads to the other host, the second one goes on there.
    let asked = other.asked();
    for at in [true, false] {
        assert!(
            asked
                .iter()
                .any(|asked| asked.path.starts_with("/on/") == at)
        );
    }
    assert!(asked.iter().all(|asked| asked.token.is_none()), "{asked:?}");
    let with_head = asked.iter().any(|asked| asked.method == "HEAD");
    assert_eq!(with_head, manner == Manner::Plain);
}

#[test]
fn a_listing_that_goes_on_at_another_host_is_refused() {
    let other = faulty(MirrorFault::None);
    let hub = faulty(MirrorFault::NextPage { port: other.port() });
    let home = Home::new(&hub.endpoint(), "");
    let said = home.run(&FETCH).ended_with(75);
    assert!(
        said.stderr.contains("which is another host than the hub"),
        "{said:?}"
    );
    assert!(other.asked().is_empty());
}

/// More than a hub's answer may have, less than a machine has to have.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[test]
fn an_answer_without_end_is_refused_before_it_fills_memory() {
    for fault in [
        MirrorFault::Endless,
        MirrorFault::Listed { more: 200_000 },
        MirrorFault::Verbose { bytes: 8 << 20 },
    ] {
        let hub = faulty(fault);
        let home = Home::new(&hub.endpoint(), "");
        let said = home.run(&FETCH).ended_with(75);
        let sentence = "longer than that of any model";
        assert!(said.stderr.contains(sentence), "{fault:?}: {said:?}");
        let sent = hub.asked().iter().map(|asked| asked.sent_bytes).max();
        assert!(
            sent.is_some_and(|sent| sent < ANSWER_BYTES_MAX),
            "{fault:?}: {sent:?}"
        );
    }
    let hub = faulty(MirrorFault::Listed { more: 9_000 });
    let home = Home::new(&hub.endpoint(), "");
    home.run(&FETCH).ended_with(0);
    assert_whole(&home.published(KEY, "original"));
}

#[test]
fn a_pinned_commit_that_is_here_sends_no_request() {
    let mirror = faulty(MirrorFault::None);
    let home = Home::new(&mirror.endpoint(), "");
    let pinned = [&FETCH[..], &["--revision", mirror::COMMIT]].concat();
    home.run(&pinned).ended_with(0);
    let requests = mirror.asked().len();
    home.run(&pinned).ended_with(0);
    assert_eq!(mirror.asked().len(), requests);
}

#[test]
fn offline_makes_no_socket_of_the_internet_in_any_process() {
    let mirror = faulty(MirrorFault::None);
    let home = Home::new(&mirror.endpoint(), "offline = true");
    let said = home.run(&FETCH).ended_with(2);
    assert!(said.stderr.contains("hub.offline"), "{said:?}");
    // The fetch program refuses by itself, too.
    let fetch = Path::new(env!("CARGO_BIN_EXE_fetch"));
    let output = home.program(fetch, &[KEY, "--offline"]).output();
    let said = CommandOutput::of(output.expect("it starts")).ended_with(1);
    assert!(said.stdout.contains(r#""kind":"offline""#), "{said:?}");
    assert!(mirror.asked().is_empty());
    let strace = Path::new("/usr/bin/strace");
    if !strace.exists() {
        eprintln!("no strace here: sockets are not watched");
        return;
    }
    let picture = tempfile::tempdir().expect("a temporary folder");
    let picture = picture.path().join("a.png");
    let picture = picture.to_str().expect("plain");
    let imagepool = Binaries::built().imagepool();
    let imagepool = imagepool.to_str().expect("plain");
    // A private pool and its worker too: one is refused a model whose files are not here, one draws.
    for (program, arguments) in [
        (imagepool, &FETCH[..]),
        (imagepool, &["generate", "a fox", "-m", KEY, "-o", picture]),
        (imagepool, &["generate", "a red circle", "-o", picture]),
        (env!("CARGO_BIN_EXE_fetch"), &[KEY, "--offline"]),
    ] {
        let traced = [&["-f", "-qq", "-e", "trace=socket", program][..], arguments].concat();
        let output = home
            .program(strace, &traced)
            .output()
            .expect("strace starts");
        let trace = String::from_utf8_lossy(&output.stderr).into_owned();
        if trace.contains("PTRACE") {
            eprintln!("no process may be traced here: sockets are not watched");
            return;
        }
        assert!(!trace.contains("AF_INET"), "{trace}");
    }
}
