//! The settings of a server.
//!
//! Given to `Server::start` or `Service::open`. Invariant: the default needs nothing but a
//! directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Auth;
use crate::fault::FaultRules;
use crate::quota::Quotas;

/// The settings that a server is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where tables, log and sessions are kept; created if there is none.
    pub dir: PathBuf,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Who may ask. Anybody may only if no other machine can reach the server.
    pub auth: Auth,
    /// The name of its one project.
    pub project: String,
    /// Connections at once, at most; further ones wait until one ends.
    pub connections_max: usize,
    /// Bytes of a request's body, at most.
    pub body_bytes_max: usize,
    /// Bytes after which the spool begins another segment.
    pub segment_bytes: u64,
    /// Whether a second open session of a partition is refused: then assumption (a) of the sink
    /// does not hold, and it needs `sink.session.overlap` = false.
    pub one_session: bool,
    /// How long a commit takes, by the server's clock: until then its session is `committing`, and
    /// no row of it is visible. The service needs 2.2 to 3.0 seconds; zero by default.
    pub commit_latency: Duration,
    /// Limits of the use by clients; none by default.
    pub quotas: Quotas,
    /// Faults; none by default.
    pub faults: FaultRules,
}

impl ServerSettings {
    /// A server of the project `local` on any free port of this machine.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            auth: Auth::Open,
            project: "local".to_owned(),
            connections_max: CONNECTIONS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            segment_bytes: SEGMENT_BYTES,
            one_session: false,
            commit_latency: Duration::ZERO,
            quotas: Quotas::default(),
            faults: FaultRules::default(),
        }
    }
}

/// More than the writers of one machine hold open.
const CONNECTIONS_MAX: usize = 512;
/// Sixty-four times the pack that clients send by default.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Read whole at a start, so not larger.
const SEGMENT_BYTES: u64 = 16 << 20;
