//! The retry table, row by row: what goes wrong, what the sink does, in how many attempts, and what
//! the table holds in the end.
//!
//! The shipped component in the real host runtime writes over TCP to the real server, which fails
//! by its own fault rules. Invariant: in the end of each row the table equals a fold that knows
//! nothing of sink or server, and the attempts are those that left the host.

mod components;
mod crashes;
mod doubts;
mod outages;
mod refusals;
mod report;
mod scene;
mod slow_downs;
mod world;
