//! `serve` as a process: how signals end it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::support::{Place, Server};

/// A request whose body never comes: the server has begun it once it asks for the body.
fn begin_request(server: &Server) -> TcpStream {
    let address = server.endpoint.trim_start_matches("http://").trim_end_matches("/api");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let head = "POST /api/projects/local/instances HTTP/1.1\r\nHost: local\r\nExpect: \
                100-continue\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the server reads");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("the server asks for the body");
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

fn signal(server: &Server, name: &str) {
    let pid = server.child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().expect("kill is there");
    assert!(sent.success());
}

#[test]
fn a_signal_ends_a_server_with_0() {
    for name in ["-INT", "-TERM"] {
        let place = Place::new();
        let mut server = Server::start(&place);
        signal(&server, name);
        assert_eq!(server.child.wait().expect("ended").code(), Some(0), "{name}");
    }
}

#[test]
fn a_second_signal_ends_a_server_at_once_with_130() {
    let place = Place::new();
    let mut server = Server::start(&place);
    let request = begin_request(&server);
    signal(&server, "-TERM");
    // The first one is waited for: two that are pending at the same time count as one.
    while TcpStream::connect(request.peer_addr().expect("connected")).is_ok() {
        std::thread::yield_now();
    }
    signal(&server, "-INT");
    assert_eq!(server.child.wait().expect("ended").code(), Some(130));
}
