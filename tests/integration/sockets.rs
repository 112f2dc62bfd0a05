//! Clients and daemons use only sockets that no other user could have created.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;

use ipc_protocol::client::Client;
use nix::unistd::geteuid;
use tests::daemon::TestDaemon;
use tests::program::{self, PATIENCE};
use tests::sandbox::Sandbox;
use tests::wait;

/// A user that owns nothing here.
const NOBODY: u32 = 65534;
const ASK: [&str; 4] = ["generate", "a secret", "-o", "a.png"];
const QUICK: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";

/// A sandbox where this test listens in place of a daemon.
fn with_listener() -> (Sandbox, UnixListener) {
    let sandbox = Sandbox::new(QUICK);
    fs::create_dir(sandbox.runtime_dir()).expect("our own folder");
    fs::set_permissions(sandbox.runtime_dir(), Permissions::from_mode(0o700)).expect("ours");
    let listener = UnixListener::bind(sandbox.socket()).expect("our own folder");
    listener.set_nonblocking(true).expect("a socket");
    (sandbox, listener)
}

/// Asserts that the command is refused and that the listener received not one byte.
#[track_caller]
fn assert_not_asked(sandbox: &Sandbox, listener: &UnixListener, why: &str) {
    for command in [&ASK[..], &["status"]] {
        let output = sandbox.imagepool(command).ended_with(4);
        assert!(
            output.stderr.contains("is not trusted"),
            "{}",
            output.stderr
        );
        assert!(output.stderr.contains(why), "{}", output.stderr);
        while let Ok((mut client, _)) = listener.accept() {
            let mut sent = Vec::new();
            client.read_to_end(&mut sent).expect("the client is gone");
            assert!(sent.is_empty(), "{} bytes", sent.len());
        }
    }
}

#[test]
fn a_client_sends_nothing_to_a_socket_that_others_could_have_put_there() {
    let (sandbox, listener) = with_listener();
    for mode in [0o777, 0o770, 0o702, 0o1777] {
        fs::set_permissions(sandbox.runtime_dir(), Permissions::from_mode(mode)).expect("ours");
        assert_not_asked(&sandbox, &listener, "may write to its folder");
    }
    fs::set_permissions(sandbox.runtime_dir(), Permissions::from_mode(0o700)).expect("ours");
    let real = sandbox.home().join("real");
    fs::rename(sandbox.runtime_dir(), &real).expect("ours");
    std::os::unix::fs::symlink(&real, sandbox.runtime_dir()).expect("ours");
    assert_not_asked(&sandbox, &listener, "is a link");
}

#[test]
fn a_client_sends_nothing_to_a_daemon_of_another_user() {
    let (sandbox, listener) = with_listener();
    if !geteuid().is_root() {
        // What another user would own nobody but root can make; what is ours is spoken to.
        let begun = sandbox.imagepool_begun(&["status"]);
        let client = wait::until_found(PATIENCE, || listener.accept().ok());
        assert!(client.is_some(), "our own socket is trusted");
        drop((client, listener));
        begun.output().ended_with(7);
        return;
    }
    chown(sandbox.socket(), Some(NOBODY), None).expect("root may");
    assert_not_asked(&sandbox, &listener, "it belongs to user 65534");
    chown(sandbox.runtime_dir(), Some(NOBODY), None).expect("root may");
    assert_not_asked(&sandbox, &listener, "its folder belongs to user 65534");
    drop(listener);
    fs::remove_file(sandbox.socket()).expect("root may");
    // The names look right, and who listens is another.
    sandbox.open();
    let daemon = TestDaemon::start_as(NOBODY, NOBODY, sandbox);
    for path in [daemon.sandbox.runtime_dir(), daemon.sandbox.socket()] {
        chown(path, Some(0), Some(0)).expect("root may");
    }
    let output = daemon.imagepool(&ASK).ended_with(4);
    assert!(
        output.stderr.contains("user 65534 serves there"),
        "{}",
        output.stderr
    );
}

#[test]
fn folders_of_the_environment_count_only_where_they_are_absolute_and_ours() {
    let sandbox = Sandbox::new(QUICK);
    let looked_at = |runtime: &str| {
        let mut command = tests::imagepool::command(&sandbox, &["status"]);
        command.env("XDG_RUNTIME_DIR", runtime);
        let output = program::Call::start(command).output().ended_with(7);
        output.stderr
    };
    let session = sandbox.runtime_dir();
    let session = session.parent().expect("a folder").to_owned();
    let ours = looked_at(&session.display().to_string());
    assert!(
        ours.contains(&sandbox.socket().display().to_string()),
        "{ours}"
    );
    let fallback = format!("/tmp/imagepool-{}/pool.sock", geteuid());
    for runtime in ["", "run", "../run", "/nonexistent"] {
        let places = looked_at(runtime);
        assert!(places.contains(&fallback), "{runtime:?}: {places}");
        assert_eq!(
            places.matches("pool.sock").count(),
            2,
            "{runtime:?}: {places}"
        );
    }
    assert!(!sandbox.pictures().join("run").exists());
    if geteuid().is_root() {
        chown(&session, Some(NOBODY), None).expect("root may");
        let places = looked_at(&session.display().to_string());
        assert!(!places.contains(&session.display().to_string()), "{places}");
    }
}

#[test]
fn a_socket_a_lock_and_a_folder_that_were_removed_come_back() {
    let mut daemon = TestDaemon::start(QUICK);
    let sandbox = std::sync::Arc::clone(&daemon.sandbox);
    let lock = sandbox.runtime_dir().join("lock");
    let is_back = || Client::connect(&sandbox.socket()).is_ok() && lock.exists();
    let remove: [&dyn Fn(); 4] = [
        &|| fs::remove_file(sandbox.socket()).expect("it is there"),
        &|| fs::remove_file(&lock).expect("it is there"),
        &|| fs::remove_dir_all(sandbox.runtime_dir()).unwrap_or_default(),
        &|| fs::rename(sandbox.runtime_dir(), sandbox.home().join("old")).expect("it is there"),
    ];
    for (number, remove) in remove.into_iter().enumerate() {
        remove();
        assert!(
            wait::until(PATIENCE, is_back),
            "number {number} is missing: {:?}",
            daemon.stderr.all()
        );
        // It is known before anybody looks at names, so this holds at every moment.
        let second = TestDaemon::refused_in(&sandbox).ended_with(1).stderr;
        assert!(second.contains("already"), "{second}");
        sandbox.imagepool(&["status"]).succeeded();
        daemon.stderr.wait_for("is restored", number + 1, PATIENCE);
    }
    daemon.imagepool(&ASK).succeeded();
    daemon.imagepool(&["shutdown"]).succeeded();
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(
        !sandbox.socket().exists(),
        "the socket goes with its daemon"
    );
}

/// Whether both doors and the lock are at their paths, and a client is served.
fn serves_at_its_path(sandbox: &Sandbox) -> bool {
    let there = |name| sandbox.runtime_dir().join(name).exists();
    let http = std::os::unix::net::UnixStream::connect(sandbox.runtime_dir().join("http.sock"));
    http.is_ok() && there("lock") && Client::connect(&sandbox.socket()).is_ok()
}

#[test]
fn a_daemon_comes_back_to_its_path_if_the_folder_above_is_renamed_or_replaced() {
    let mut daemon = TestDaemon::start(QUICK);
    let sandbox = std::sync::Arc::clone(&daemon.sandbox);
    let above = sandbox.runtime_dir();
    let above = above.parent().expect("a folder").to_owned();
    let old = |number: usize| sandbox.home().join(format!("run-{number}"));
    let change: [&dyn Fn(); 4] = [
        &|| fs::rename(&above, old(0)).expect("ours"),
        &|| {
            // A folder is replaced by another in one step.
            fs::create_dir(old(1)).expect("ours");
            let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            let (here, there) = (nix::fcntl::AT_FDCWD, nix::fcntl::AT_FDCWD);
            nix::fcntl::renameat2(here, &above, there, &old(1), flags).expect("ours");
        },
        &|| fs::remove_dir_all(&above).unwrap_or_default(),
        &|| {
            fs::rename(&above, old(3)).expect("ours");
            // The daemon may have been quicker.
            let _ = fs::create_dir(&above);
        },
    ];
    for (number, change) in change.into_iter().enumerate() {
        change();
        assert!(
            wait::until(PATIENCE, || serves_at_its_path(&sandbox)),
            "number {number} is not noticed: {:?}",
            daemon.stderr.all()
        );
        let second = TestDaemon::refused_in(&sandbox).ended_with(1).stderr;
        assert!(second.contains("already"), "{second}");
        sandbox.imagepool(&["status"]).succeeded();
    }
    daemon.imagepool(&ASK).succeeded();
    daemon.imagepool(&["shutdown"]).succeeded();
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Runs a program of the system.
fn run(sandbox: &Sandbox, program: &str, arguments: &[&str]) {
    let mut command = program::command(std::path::Path::new(program), sandbox);
    command.args(arguments);
    program::Call::start(command).output().succeeded();
}

#[test]
fn a_daemon_comes_back_to_its_path_if_something_is_mounted_over_it() {
    if !geteuid().is_root() {
        return;
    }
    let mut daemon = TestDaemon::start(QUICK);
    let sandbox = std::sync::Arc::clone(&daemon.sandbox);
    let above = sandbox.runtime_dir();
    let above = above.parent().expect("a folder").display().to_string();
    let tmpfs = ["-t", "tmpfs", "-o", "size=1m,mode=0700", "none", &above];
    let assert_comes_back = |what: &str| {
        let is_back = wait::until(PATIENCE, || serves_at_its_path(&sandbox));
        assert!(is_back, "{what} is not noticed: {:?}", daemon.stderr.all());
        sandbox.imagepool(&["status"]).succeeded();
    };
    run(&sandbox, "/bin/mount", &tmpfs);
    assert_comes_back("the mount");
    // Lazily: the daemon's files there are open.
    run(&sandbox, "/bin/umount", &["-l", &above]);
    assert_comes_back("its end");
    daemon.imagepool(&ASK).succeeded();
    daemon.imagepool(&["shutdown"]).succeeded();
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn no_door_opens_in_a_folder_that_another_user_put_in_place_of_ours() {
    let daemon = TestDaemon::start(QUICK);
    let sandbox = std::sync::Arc::clone(&daemon.sandbox);
    let (folder, foreign) = (sandbox.runtime_dir(), sandbox.home().join("foreign"));
    let assert_stays_out = |number: usize| {
        let place = [sandbox.socket(), folder.join("http.sock")];
        for socket in place {
            daemon
                .stderr
                .wait_for("cannot be restored", 2 * number + 2, PATIENCE);
            assert!(!socket.exists(), "{}", socket.display());
        }
        assert_eq!(fs::read_dir(&foreign).expect("ours").count(), 0);
    };
    let assert_comes_back = || {
        let is_back = wait::until(PATIENCE, || serves_at_its_path(&sandbox));
        assert!(is_back, "{:?}", daemon.stderr.all());
    };
    fs::create_dir(&foreign).expect("ours");
    let beside = sandbox.home().join("link");
    std::os::unix::fs::symlink(&foreign, &beside).expect("ours");
    let exchange = |with: &std::path::Path| {
        let (here, flags) = (
            nix::fcntl::AT_FDCWD,
            nix::fcntl::RenameFlags::RENAME_EXCHANGE,
        );
        nix::fcntl::renameat2(here, &folder, here, with, flags).expect("ours");
    };
    exchange(&beside);
    assert_stays_out(0);
    fs::remove_file(&folder).expect("the link");
    assert_comes_back();
    if geteuid().is_root() {
        chown(&foreign, Some(NOBODY), None).expect("root may");
        exchange(&foreign);
        daemon.stderr.wait_for("cannot be restored", 4, PATIENCE);
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 0);
        fs::remove_dir(&folder).expect("it is empty");
        assert_comes_back();
    }
}

#[test]
fn a_runtime_folder_that_becomes_writable_by_others_is_closed_again() {
    let daemon = TestDaemon::start(QUICK);
    let folder = daemon.sandbox.runtime_dir();
    for mode in [0o777, 0o1770, 0o702] {
        fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("ours");
        let closed = || fs::metadata(&folder).is_ok_and(|it| it.mode() & 0o022 == 0);
        assert!(
            wait::until(PATIENCE, closed),
            "{mode:o}: {:?}",
            daemon.stderr.all()
        );
        daemon.imagepool(&["status"]).succeeded();
    }
    daemon
        .stderr
        .wait_for("that permission is removed", 3, PATIENCE);
}

#[test]
fn the_socket_and_its_folder_let_in_whom_the_settings_say() {
    for (mode, socket, folder) in [("0600", 0o600, 0o700), ("0660", 0o660, 0o750)] {
        let daemon = TestDaemon::start(&format!("{QUICK}[socket]\nmode = \"{mode}\"\n"));
        let bits = |path| fs::metadata(path).expect("it is there").mode() & 0o7777;
        assert_eq!(bits(daemon.sandbox.socket()), socket, "{mode}");
        assert_eq!(bits(daemon.sandbox.runtime_dir()), folder, "{mode}");
    }
}

#[test]
fn a_runtime_folder_that_others_may_write_to_is_refused_with_what_to_do() {
    let sandbox = Sandbox::new(QUICK);
    fs::create_dir(sandbox.runtime_dir()).expect("our own folder");
    fs::set_permissions(sandbox.runtime_dir(), Permissions::from_mode(0o777)).expect("ours");
    let refused = TestDaemon::refused_in(&sandbox).ended_with(1).stderr;
    assert!(refused.contains("chmod go-w"), "{refused}");
    if geteuid().is_root() {
        let folder = sandbox.runtime_dir();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("ours");
        chown(&folder, Some(NOBODY), None).expect("root may");
        let refused = TestDaemon::refused_in(&sandbox).ended_with(1).stderr;
        assert!(refused.contains("belongs to user 65534"), "{refused}");
    }
}

#[test]
fn half_a_greeting_does_not_hold_a_client_without_end() {
    use std::io::Write;
    let daemon = TestDaemon::start(QUICK);
    let mut client =
        std::os::unix::net::UnixStream::connect(daemon.sandbox.socket()).expect("it serves");
    client.write_all(b"IMGP\x01").expect("the daemon listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut byte = [0];
    match client.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("the daemon hangs up, not {other:?}"),
    }
}
