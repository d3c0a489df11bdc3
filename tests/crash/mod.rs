//! kill -9 of real processes over real disks: `run` with its embedded server, and `serve` and `run`
//! with a network between them that loses, cuts and delays; then torn writes and full disks.
//!
//! Invariants: a kill follows an event (a line, a request on the wire), never time alone; it is
//! recorded with the phase that it really hit; and after each series the table is the independent
//! fold of the input.

mod components;
mod exchange;
mod full_disk;
mod http;
mod input;
mod job;
mod killed_run;
mod killed_serve;
mod process;
mod proxy;
mod site;
mod tally;
mod torn;
mod torn_run;
mod torn_serve;
