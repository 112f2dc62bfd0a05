//! A client meets a daemon that ends before it greets, as when it is being restarted.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use ipc_protocol::client::Client;
use ipc_protocol::connection;
use ipc_protocol::messages::client::{FromPool, ToPool};
use ipc_protocol::version::PROTOCOL;

/// Answers a client's greeting.
fn greet(mut stream: UnixStream) {
    let said: ToPool = connection::read(&mut stream).expect("the client greets");
    assert!(matches!(said, ToPool::Hello { .. }));
    let hello = FromPool::Hello {
        protocol: PROTOCOL,
        version: "1".into(),
        pid: 7,
    };
    connection::write(&mut stream, &hello).expect("the client waits");
}

#[test]
fn a_client_that_is_not_greeted_asks_the_next_daemon() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("pool.sock");
    let listener = UnixListener::bind(&socket).expect("a folder of our own");
    let daemons = thread::spawn(move || {
        // The first ends with the greeting unread, the second after it has read some of it.
        let (first, _) = listener.accept().expect("the client comes");
        drop(first);
        let (mut second, _) = listener.accept().expect("the client comes again");
        second.read_exact(&mut [0; 4]).expect("the client greets");
        drop(second);
        let (third, _) = listener.accept().expect("the client comes again");
        greet(third);
    });
    let client = Client::connect(&socket).expect("the third daemon greets");
    assert_eq!(client.pid, 7);
    daemons.join().expect("three clients came");
}
