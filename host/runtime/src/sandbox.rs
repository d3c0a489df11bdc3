//! The sandbox: what a guest may use of the machine, and the only place where wasmtime is
//! configured.
//!
//! Between `plugin.rs` (one engine for each plugin) and `instance.rs` (one store for each
//! instance). Invariant: every store has all limits set; the linear memory keeps its 4 GiB
//! reservation, so that bounds checks cost nothing.

use std::time::Duration;

use wasmtime::{Config, Engine, ResourceLimiter, Store};

use crate::components::tick_every;
use crate::error::{Error, Result};

/// The limits of one instance. All of it is bounded; the defaults suit one sink task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// How long one call may run.
    pub call_timeout: Duration,
    /// Elements of tables.
    pub table_elements: usize,
    /// Operations submitted and not yet released.
    pub tickets: usize,
    /// Bytes of packs that the host keeps for the guest.
    pub held_bytes: usize,
    /// Bytes that one call may hand to the host.
    pub call_bytes: usize,
    /// Bytes of one log line; the rest is cut.
    pub log_line_bytes: usize,
    /// Log lines in a second, and ten times as many at once; more are counted and dropped.
    pub log_lines_per_second: u64,
    /// Distinct names of counters; more are dropped.
    pub counters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            call_timeout: Duration::from_secs(10),
            table_elements: 10_000,
            tickets: 1024,
            held_bytes: 256 << 20,
            call_bytes: 256 << 20,
            log_line_bytes: 8 << 10,
            log_lines_per_second: 100,
            counters: 64,
        }
    }
}

impl Limits {
    /// The deadline of one call, in ticks of the epoch; at least one whole tick.
    fn call_ticks(&self) -> u64 {
        let ticks = self.call_timeout.as_millis().div_ceil(TICK.as_millis());
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// An engine with every proposal switched off that the guest does not need, and its epoch ticking.
pub(crate) fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .epoch_interruption(true)
        .max_wasm_stack(512 << 10);
    let engine = Engine::new(&config)
        .map_err(|error| Error::bug("sandbox", format!("the engine cannot start: {error:#}")))?;
    // The thread ends with the engine: it holds only a weak reference.
    let weak = engine.weak();
    tick_every(TICK, move || match weak.upgrade() {
        Some(engine) => {
            engine.increment_epoch();
            true
        }
        None => false,
    });
    Ok(engine)
}

/// A fresh store around `state`, with every limit set.
pub(crate) fn store<T: Limited + 'static>(engine: &Engine, state: T) -> Store<T> {
    let call_bytes = state.limits().call_bytes;
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.growth());
    store.set_hostcall_fuel(call_bytes);
    store.epoch_deadline_trap();
    begin_call(&mut store);
    store
}

/// Gives the call that follows its full time.
pub(crate) fn begin_call<T: Limited>(store: &mut Store<T>) {
    let ticks = store.data().limits().call_ticks();
    store.set_epoch_deadline(ticks);
}

/// The sizes that memory and tables of one instance may grow to, as wasmtime asks for them. A guest
/// that wants more is trapped, with [`GrowthRefused`] as the reason.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    memory_bytes: usize,
    table_elements: usize,
    /// The linear memory so far; it never shrinks.
    grown_bytes: usize,
}

impl Growth {
    pub(crate) const fn new(limits: &Limits) -> Self {
        let Limits { memory_bytes, table_elements, .. } = limits;
        Self { memory_bytes: *memory_bytes, table_elements: *table_elements, grown_bytes: 0 }
    }

    /// The bytes of linear memory that were granted.
    pub(crate) fn grown_bytes(&self) -> usize {
        self.grown_bytes
    }
}

/// Why a guest was trapped that wanted to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrowthRefused {
    /// So many bytes of linear memory are more than it is granted, or than the machine has.
    Memory(usize),
    /// So many elements of a table are more than it is granted.
    Table(usize),
}

impl std::fmt::Display for GrowthRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{bytes} bytes of memory are more than is granted"),
            Self::Table(elements) => {
                write!(f, "{elements} elements of a table are more than is granted")
            }
        }
    }
}

impl std::error::Error for GrowthRefused {}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes {
            return Err(GrowthRefused::Memory(desired).into());
        }
        self.grown_bytes = self.grown_bytes.max(desired);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(GrowthRefused::Memory(self.memory_bytes).into())
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            return Err(GrowthRefused::Table(desired).into());
        }
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(GrowthRefused::Table(self.table_elements).into())
    }

    fn instances(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        4
    }
}

/// The state of a store, which holds its limits.
pub(crate) trait Limited {
    fn limits(&self) -> &Limits;
    fn growth(&mut self) -> &mut Growth;
}

/// One tick of the epoch. Ten milliseconds cost no measurable time and are fine enough for a
/// deadline of seconds.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use wasm_encoder as wasm;
    use wasmtime::component::{Component, Linker};

    use super::*;

    struct Bare(Limits, Growth);

    impl Limited for Bare {
        fn limits(&self) -> &Limits {
            &self.0
        }

        fn growth(&mut self) -> &mut Growth {
            &mut self.1
        }
    }

    /// A component with one export, `run`, whose body is `instructions`.
    fn hostile(instructions: &[wasm::Instruction<'_>]) -> Vec<u8> {
        let mut module = wasm::Module::new();
        let mut types = wasm::TypeSection::new();
        types.ty().function([], []);
        let mut functions = wasm::FunctionSection::new();
        functions.function(0);
        let mut memories = wasm::MemorySection::new();
        let (minimum, maximum, memory64, shared) = (1, None, false, false);
        let page_size_log2 = None;
        memories.memory(wasm::MemoryType { minimum, maximum, memory64, shared, page_size_log2 });
        let mut exports = wasm::ExportSection::new();
        exports.export("run", wasm::ExportKind::Func, 0);
        let mut code = wasm::CodeSection::new();
        let mut body = wasm::Function::new([]);
        for instruction in instructions {
            body.instruction(instruction);
        }
        code.function(&body);
        module.section(&types).section(&functions).section(&memories);
        module.section(&exports).section(&code);
        let mut component = wasm::ComponentBuilder::default();
        let module = component.core_module(None, &module);
        let none: [(&str, wasm::ModuleArg); 0] = [];
        let instance = component.core_instantiate(None, module, none);
        let run = component.core_alias_export(None, instance, "run", wasm::ExportKind::Func);
        let (ty, mut encoder) = component.type_function(None);
        encoder.params([] as [(&str, wasm::ComponentValType); 0]).result(None);
        let lifted = component.lift_func(None, run, ty, []);
        component.export("run", wasm::ComponentExportKind::Func, lifted, None);
        component.finish()
    }

    fn run(component: &[u8], limits: Limits) -> Error {
        let engine = engine().expect("an engine");
        let component = Component::new(&engine, component).expect("a valid component");
        let mut store = store(&engine, Bare(limits.clone(), Growth::new(&limits)));
        let linker = Linker::new(&engine);
        let instance = linker.instantiate(&mut store, &component).expect("it imports nothing");
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").expect("it exports run");
        begin_call(&mut store);
        crate::error::trapped("writer 0", &run.call(&mut store, ()).expect_err("it is stopped"))
    }

    #[test]
    fn a_guest_that_never_returns_is_interrupted() {
        use wasm::Instruction::*;
        let spin = hostile(&[Loop(wasm::BlockType::Empty), Br(0), End, End]);
        let limits = Limits { call_timeout: Duration::from_millis(20), ..Limits::default() };
        let error = run(&spin, limits);
        assert!(error.message.contains("interrupted"), "{error}");
    }

    #[test]
    fn a_guest_that_wants_more_memory_than_granted_is_stopped() {
        use wasm::Instruction::*;
        let grow = hostile(&[I32Const(1024), MemoryGrow(0), Drop, End]);
        let error = run(&grow, Limits { memory_bytes: 1 << 20, ..Limits::default() });
        assert!(error.message.contains("`sandbox.memory-limit`"), "{error}");
    }

    #[test]
    fn a_guest_that_recurses_without_end_is_stopped() {
        let error =
            run(&hostile(&[wasm::Instruction::Call(0), wasm::Instruction::End]), Limits::default());
        assert!(error.message.contains("trapped"), "{error}");
    }
}
