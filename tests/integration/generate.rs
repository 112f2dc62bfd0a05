//! A prompt in, a file and a line of JSON out.

use std::collections::BTreeSet;
use std::fs;

use tests::daemon::TestDaemon;
use tests::pixels::Pixels;

const KEYS: [&str; 15] = [
    "job",
    "index",
    "file",
    "model",
    "seed",
    "width",
    "height",
    "steps",
    "worker",
    "attempts",
    "resumed_from_step",
    "queue_ms",
    "load_ms",
    "denoise_ms",
    "decode_ms",
];

#[test]
fn a_picture_comes_with_every_fact_the_interface_names() {
    let daemon = TestDaemon::start("");
    let output = daemon
        .imagepool(&[
            "generate",
            "a red circle",
            "-o",
            "a.png",
            "--seed",
            "7",
            "--json",
        ])
        .succeeded();
    let lines = output.json();
    assert_eq!(lines.len(), 1);
    let object = lines[0].as_object().expect("an object");
    let keys: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(KEYS));
    assert_eq!(object["file"], "a.png");
    assert_eq!(object["model"], "pocket-flux");
    assert_eq!(object["seed"], 7);
    assert_eq!(object["attempts"], 1);
    let worker = object["worker"].as_str().expect("a name");
    assert!(worker.starts_with("pocket-flux:"), "{worker}");
    let picture = Pixels::read(&daemon.sandbox.pictures().join("a.png"));
    assert_eq!((picture.width, picture.height), (128, 128));
}

#[test]
fn several_pictures_equal_as_many_single_runs_with_the_seeds_they_report() {
    let daemon = TestDaemon::start("");
    let prompt = "a green star on a black background";
    let folder = daemon.sandbox.pictures();
    let together = daemon
        .imagepool(&[
            "generate", prompt, "-n", "3", "--seed", "7", "-o", "all.png", "--json",
        ])
        .succeeded();
    for line in together.json() {
        let seed = line["seed"].to_string();
        let file = line["file"].as_str().expect("a file name");
        let index = line["index"].as_u64().expect("a number");
        assert_eq!(file, format!("all-{}.png", index + 1));
        assert_eq!(seed, (7 + index).to_string());
        let alone = format!("alone-{seed}.png");
        daemon
            .imagepool(&["generate", prompt, "--seed", &seed, "-o", &alone])
            .succeeded();
        let read = |name: &str| fs::read(folder.join(name)).expect("it was written");
        assert!(read(file) == read(&alone), "{file} and {alone} differ");
    }
    assert_eq!(together.json().len(), 3);
}

#[test]
fn a_picture_goes_to_stdout_with_the_same_bytes_and_no_words_between() {
    let daemon = TestDaemon::start("");
    let ask = |output| ["generate", "a blue ring", "--seed", "3", "-o", output];
    daemon.imagepool(&ask("a.png")).succeeded();
    let output = daemon.imagepool(&ask("-")).succeeded();
    let file = fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written");
    assert!(output.stdout == file);
}

#[test]
fn a_missing_seed_is_drawn_and_reported() {
    let daemon = TestDaemon::start("");
    let seeds: BTreeSet<String> = (0..3)
        .map(|_| {
            let output = daemon
                .imagepool(&["generate", "a heart", "-f", "-o", "a.png", "--json"])
                .succeeded();
            output.json()[0]["seed"].to_string()
        })
        .collect();
    assert_eq!(seeds.len(), 3, "{seeds:?}");
}

#[test]
fn an_unknown_word_is_reported_with_the_closest_known_one() {
    let daemon = TestDaemon::start("");
    let draw = |prompt: &str, more: &str| {
        let line = ["generate", prompt, "-f", "-o", "a.png", more];
        daemon.imagepool(&line).succeeded()
    };
    let output = draw("a red sqare on a zzyzx background", "--json");
    let unknown = &output.json()[0]["unknown_words"];
    assert_eq!(unknown[0]["word"], "sqare");
    assert_eq!(unknown[0]["nearest"], "square");
    assert_eq!(unknown[1]["nearest"], serde_json::Value::Null);
    let said = "pocket-flux does not know \"sqare\"; it knows ";
    assert!(output.stderr.contains(said), "{}", output.stderr);
    let quiet = draw("a red sqare", "-q");
    assert_eq!(quiet.stderr, "");
    let understood = draw("a red square on a white background", "--json");
    assert_eq!(understood.stderr, "");
}

#[test]
fn what_a_small_model_draws_is_shown_by_group() {
    let sandbox = tests::sandbox::Sandbox::new("");
    let show = |more: &[&str]| {
        let line = [&["models", "show", "pocket-flux"], more].concat();
        sandbox.imagepool(&line).succeeded()
    };
    let shapes = "  shapes in a colour: circle, square, triangle";
    let shown = show(&[]).stdout;
    assert!(String::from_utf8_lossy(&shown).contains(shapes));
    let told = &show(&["--json"]).json()[0]["draws"];
    let groups = told.as_array().expect("groups");
    let colours = groups.iter().find(|group| group["name"] == "colours");
    assert!(colours.is_some_and(|group| group["things"][0] == "red"));
}

#[test]
fn a_socket_that_does_not_answer_is_exit_7() {
    let sandbox = tests::sandbox::Sandbox::new("");
    let output = sandbox
        .imagepool(&["--socket", "nobody.sock", "generate", "a heart"])
        .ended_with(7);
    assert!(output.stderr.contains("nobody.sock"), "{}", output.stderr);
}
