//! Every advice of the specification is provoked on the local server, and told with the figure that
//! it rests on.
//!
//! The shipped component writes through the real runtime into the server, all in virtual time;
//! faults and quotas of the server, and a narrow line before it, make the limits. Invariant: each
//! limit is told under its own name, and no other is accused.

mod commits;
mod job;
mod line;
mod rows;
