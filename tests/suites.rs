//! The suites that drive whole programs and servers, in one executable: each links the sandbox and
//! the query engine, so an executable for each suite would be compiled and linked nine times.
//!
//! `tests/run SUITE` runs one of the modules; the suites that need a process of their own stand
//! beside this file (`tidy`, `simulation`, `fuzz`). Invariant: a suite shares nothing with another
//! but `support`.

mod advice;
mod bad_input;
mod clients;
mod crash;
mod crash_demo;
mod demo;
mod doctor;
mod faults;
mod protocol;
mod regimes;
mod replay;
