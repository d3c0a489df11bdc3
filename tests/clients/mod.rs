//! MaxCompute's own clients, unmodified, against the local server: PyODPS, the Java SDK, JDBC.
//!
//! Each test starts the binary's `serve` in a directory of its own and the clients as processes
//! (`site`, `process`); what it sends and expects is written in `value`'s form. `bash tests/run
//! clients` makes what they need and tells where it is. Invariant: a client does what its users do,
//! and every expectation stands here.

mod java;
mod jdbc;
mod process;
mod pyodps;
mod site;
mod together;
mod value;
