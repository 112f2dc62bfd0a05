//! Attempts at the network, and at sockets of this machine.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use nix::libc;

use super::Attempt;
use super::call::{at, attempt, done};
use super::targets::parent;

/// FIOSETOWN of asm-generic/sockios.h.
const SET_OWNER: usize = 0x8901;

pub const ATTEMPTS: &[Attempt] = &[
    ("connect to the daemon's door", |to| {
        done(UnixStream::connect(to.path("socket")))
    }),
    ("connect to the HTTP door", |to| {
        done(UnixStream::connect(to.path("http")))
    }),
    ("connect to an abstract socket", |to| {
        let address = SocketAddr::from_abstract_name(to.abstract_name()).expect("a short name");
        done(UnixStream::connect_addr(&address))
    }),
    ("connect over TCP", |to| {
        done(TcpStream::connect(("127.0.0.1", to.port())))
    }),
    ("listen on TCP", |_| done(TcpListener::bind("127.0.0.1:0"))),
    ("listen on a socket with a path", |to| {
        done(UnixListener::bind(to.scratch("socket")))
    }),
    ("send over UDP", |to| {
        done(
            UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(b"x", ("127.0.0.1", to.port()))),
        )
    }),
    ("make a pair of sockets", |_| done(UnixDatagram::pair())),
    ("talk to the kernel over netlink", |_| {
        attempt(
            libc::SYS_socket,
            [libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0],
        )
    }),
    ("see every packet", |_| {
        attempt(
            libc::SYS_socket,
            [libc::AF_PACKET as usize, libc::SOCK_RAW as usize, 0],
        )
    }),
    ("change its own socket", |_| {
        let size = 4096i32;
        let option = [
            0,
            libc::SOL_SOCKET as usize,
            libc::SO_SNDBUF as usize,
            at(&size),
            4,
        ];
        attempt(libc::SYS_setsockopt, option)
    }),
    ("have the supervisor signalled by its socket", |_| {
        let owner = parent();
        attempt(libc::SYS_ioctl, [0, SET_OWNER, at(&owner)])
    }),
    ("have the supervisor signalled by its descriptor", |_| {
        attempt(
            libc::SYS_fcntl,
            [0, libc::F_SETOWN as usize, parent() as usize],
        )
    }),
];
