//! The commands as people type them: the built binary in a directory of its own.
//!
//! One executable for all of them. Invariant: each test checks what the program printed and how it
//! exited, and shares nothing with another.

mod bad_input;
mod csv;
mod demo;
mod doctor;
mod plan;
mod run;
mod serve;
mod status;
mod support;
mod verify;
