//! As much of HTTP/1.1 as the proxy must know: where a message ends, and what a request asks for.
//!
//! Between `proxy.rs` and its two connections. Invariant: a message that it does not understand is
//! an error, never passed on by half.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The operation that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// Create a session.
    Create,
    /// Ask for a session's status.
    Reload,
    /// Put a pack.
    Put,
    /// Commit a session.
    Commit,
    /// Abort a session.
    Abort,
    /// Anything else.
    Other,
}

/// A whole message.
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Where its body begins.
    pub(crate) body: usize,
}

impl Message {
    /// The operation that a request asks for.
    pub(crate) fn call(&self) -> Call {
        let line = self.first_line();
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let has = |name: &str| query.split('&').any(|pair| pair.starts_with(name));
        match method {
            _ if !path.ends_with("/upserts") => Call::Other,
            "PUT" if has("bucketid=") => Call::Put,
            "POST" if has("upsertid=") => Call::Commit,
            "POST" => Call::Create,
            "GET" => Call::Reload,
            "DELETE" => Call::Abort,
            _ => Call::Other,
        }
    }

    /// How many records a pack says that it has.
    pub(crate) fn records(&self) -> u64 {
        let line = self.first_line();
        let count = line.split("record_count=").nth(1).unwrap_or_default();
        let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    }

    /// The line of the request or of the status.
    pub(crate) fn first_line(&self) -> String {
        let end = self.bytes.iter().position(|byte| *byte == b'\r').unwrap_or(self.body);
        String::from_utf8_lossy(&self.bytes[..end]).into_owned()
    }
}

/// Reads one message; none where the connection ends before it.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<Message>> {
    let mut bytes = Vec::new();
    let body = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("the head of a message is too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            let cut = Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            return if bytes.is_empty() { Ok(None) } else { cut };
        }
    };
    let length = body + body_length(&bytes[..body])?;
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if bytes.len() > length {
        return Err(io::Error::other("a message came before the answer to the one before it"));
    }
    Ok(Some(Message { bytes, body }))
}

fn body_length(head: &[u8]) -> io::Result<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding:") {
        return Err(io::Error::other("a body in chunks, which no part of the sink sends"));
    }
    let Some(rest) = head.split("\r\ncontent-length:").nth(1) else { return Ok(0) };
    let number = rest.split("\r\n").next().unwrap_or_default().trim();
    number.parse().map_err(io::Error::other)
}

/// Writes all of it at once.
pub(crate) async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

const HEAD_BYTES_MAX: usize = 64 << 10;
