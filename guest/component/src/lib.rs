//! The component's shell: one machine of `upsert-sink-core` behind the exports of `wit/`.
//!
//! A row enters here as bytes and leaves as a pack through an import; all between is the core's.
//! Invariant: the shell decides nothing. It turns a call into an input, drains the outputs into
//! imports and progress, and sets the timer. Built for anything but WebAssembly it is empty.

#![cfg(target_arch = "wasm32")]

/// Translates a variant into the one of the same name.
macro_rules! same {
    ($value:expr, $from:path => $to:path: $($variant:ident),+) => {{
        use $from as From;
        use $to as To;
        match $value {
            $(From::$variant => To::$variant,)+
        }
    }};
}

/// Exports that only turn a call into an input: one line an export.
macro_rules! exports {
    ($call:ident -> $to:path: $($name:ident($($given:ident: $kind:ty),*) => $input:expr;)+) => {
        $(fn $name(now: u64, $($given: $kind),*) -> Result<$to, Error> {
            $call(now, $input)
        })+
    };
}

/// An event of a role, as its input.
macro_rules! happened {
    ($event:expr => $input:ident) => {
        match $event {
            Event::Completed(done) => $input::Completed(input::completion(done)),
            Event::Timer => $input::TimerFired,
        }
    };
}

mod input;
mod output;
mod role;
mod sink;
mod writer;

#[allow(missing_docs, unsafe_code, clippy::all, reason = "generated from wit/, which tells all")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "sink" });
    export!(Shell with_types_in self);

    pub(crate) struct Shell;
}
