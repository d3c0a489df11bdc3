//! A loaded component: checked for what it imports, compiled once, instantiated many times.
//!
//! First step of an embedder; `instance.rs` makes instances of it. Invariant: nothing is compiled
//! before its imports are known to be those of `wit/`, and compiled code is loaded only where this
//! user has kept it (`compiled.rs`).

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmparser::Payload;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::bindings::{Sink, SinkPre};
use crate::capability::Capabilities;
use crate::capability::watch::{Probe, Watch};
use crate::compiled::CompiledCode;
use crate::error::{Error, Result};
use crate::sandbox;
use crate::twin::MakeTwin;

/// A sink plugin. Cheap to clone; all clones share the compiled code.
#[derive(Clone)]
pub struct Plugin {
    code: Code,
    inspection: Inspection,
    watch: Watch,
}

/// The code that instances are made of.
#[derive(Clone)]
pub(crate) enum Code {
    /// A component in its sandbox.
    Component(Engine, Box<SinkPre<Capabilities>>),
    /// The native core, in a simulation.
    Twin(MakeTwin),
}

/// A component, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The digest of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: usize,
    /// The interfaces that it imports, sorted: all that it can do.
    pub imports: Vec<String>,
    /// The interfaces that it exports, sorted.
    pub exports: Vec<String>,
}

impl Plugin {
    /// The plugin that this library was built with.
    ///
    /// # Errors
    /// As of [`Plugin::load`].
    pub fn embedded() -> Result<Self> {
        Self::load(EMBEDDED)
    }

    /// The same, compiled only if its compiled code is not kept there yet.
    ///
    /// # Errors
    /// As of [`Plugin::load`]; kept code that cannot be used is none.
    pub fn embedded_with(code: &CompiledCode) -> Result<Self> {
        Self::load_with(EMBEDDED, Some(code))
    }

    /// The bytes of that plugin: to keep with recordings, or to load elsewhere.
    pub fn embedded_bytes() -> &'static [u8] {
        EMBEDDED
    }

    /// Loads a component.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are no component; `Denied` if it imports more than the contract,
    /// naming the import; `InvalidConfig` if an export of the contract is missing.
    pub fn load(component: &[u8]) -> Result<Self> {
        Self::load_with(component, None)
    }

    fn load_with(component: &[u8], code: Option<&CompiledCode>) -> Result<Self> {
        let inspection = inspect(component)?;
        if let Some(import) = inspection.imports.iter().find(|name| !is_allowed(name)) {
            return Err(Error::new(
                crate::error::ErrorKind::Denied,
                "component",
                format!(
                    "it imports `{import}`; a sink may import only {}; build it for \
                     wasm32-unknown-unknown against wit/",
                    ALLOWED_IMPORTS.join(", ")
                ),
            ));
        }
        let engine = sandbox::engine()?;
        let kept = code.and_then(|code| code.load(&engine, &inspection.sha256));
        let component = match kept {
            Some(kept) => kept,
            None => {
                let compiled = compile(&engine, component)?;
                if let Some(code) = code {
                    code.keep(&engine, &inspection.sha256, &compiled);
                }
                compiled
            }
        };
        let mut linker = Linker::new(&engine);
        Sink::add_to_linker::<_, HasSelf<_>>(&mut linker, |capabilities| capabilities)
            .map_err(|error| Error::bug("linker", format!("{error:#}")))?;
        let unfit = |error: wasmtime::Error| {
            Error::config("component", format!("it does not fit the contract of wit/: {error:#}"))
        };
        let pre = linker.instantiate_pre(&component).map_err(unfit)?;
        let pre = SinkPre::new(pre).map_err(unfit)?;
        Ok(Self {
            code: Code::Component(engine, Box::new(pre)),
            inspection,
            watch: Watch::default(),
        })
    }

    /// Something else in place of a component: no sandbox, for simulations.
    #[doc(hidden)]
    pub fn twin(make: MakeTwin) -> Self {
        let (sha256, imports, exports) = (String::new(), Vec::new(), Vec::new());
        let inspection = Inspection { sha256, bytes: 0, imports, exports };
        Self { code: Code::Twin(make), inspection, watch: Watch::default() }
    }

    /// The same, watched.
    #[doc(hidden)]
    pub fn watched(self, probe: Arc<dyn Probe>) -> Self {
        Self { watch: Watch::by(probe), ..self }
    }

    /// The imports, exports and size of the component.
    pub fn inspect(&self) -> Inspection {
        self.inspection.clone()
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }
}

#[cfg(feature = "jit")]
fn compile(engine: &Engine, component: &[u8]) -> Result<Component> {
    Component::new(engine, component)
        .map_err(|error| Error::corrupt("component", format!("it does not compile: {error:#}")))
}

#[cfg(not(feature = "jit"))]
fn compile(_engine: &Engine, _component: &[u8]) -> Result<Component> {
    let message = "this host was built without a compiler; build it with the feature `jit`";
    Err(Error::config("component", message))
}

/// Reads the outermost imports and exports, without compiling or even validating what is inside.
fn inspect(component: &[u8]) -> Result<Inspection> {
    let corrupt = |error: &dyn std::fmt::Display| {
        Error::corrupt("component", format!("the bytes are no WebAssembly component: {error}"))
    };
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(corrupt(&format!("more than {COMPONENT_BYTES_MAX} bytes")));
    }
    if !wasmparser::Parser::is_component(component) {
        return Err(corrupt(&"the header of a component is missing"));
    }
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.map_err(|error| corrupt(&error))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(|error| corrupt(&error))?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(|error| corrupt(&error))?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    imports.sort();
    exports.sort();
    Ok(Inspection { sha256: sha256(component), bytes: component.len(), imports, exports })
}

fn sha256(bytes: &[u8]) -> String {
    let mut hexadecimal = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hexadecimal, "{byte:02x}").expect("a string takes all that is written");
    }
    hexadecimal
}

fn is_allowed(import: &str) -> bool {
    ALLOWED_IMPORTS.contains(&import)
}

static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/upsert_sink.wasm"));

/// The security statement: what a component may import.
const ALLOWED_IMPORTS: [&str; 7] = [
    "upsert-sink:plugin/types@0.2.0",
    "upsert-sink:plugin/events@0.2.0",
    "upsert-sink:plugin/tunnel@0.2.0",
    "upsert-sink:plugin/file-cache@0.2.0",
    "upsert-sink:plugin/journal@0.2.0",
    "upsert-sink:plugin/timers@0.2.0",
    "upsert-sink:plugin/telemetry@0.2.0",
];
/// Ours has a few hundred kilobytes; compiling is linear in the size.
const COMPONENT_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use wasm_encoder as wasm;

    use super::*;
    use crate::error::ErrorKind;

    fn importing(name: &str) -> Vec<u8> {
        let mut component = wasm::ComponentBuilder::default();
        let empty = component.type_instance(None, &wasm::InstanceType::new());
        component.import(name, wasm::ComponentTypeRef::Instance(empty));
        component.finish()
    }

    fn refused(component: &[u8]) -> Error {
        match Plugin::load(component) {
            Ok(_) => panic!("it was loaded"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_component_with_a_foreign_import_is_refused_by_its_name() {
        let error = refused(&importing("wasi:cli/environment@0.2.0"));
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.message.contains("`wasi:cli/environment@0.2.0`"), "{error}");
    }

    #[test]
    fn an_unknown_version_of_our_own_interfaces_is_refused() {
        let error = refused(&importing("upsert-sink:plugin/tunnel@9.0.0"));
        assert_eq!(error.kind, ErrorKind::Denied);
    }

    #[test]
    fn a_component_without_the_exports_is_refused() {
        let error = refused(&wasm::ComponentBuilder::default().finish());
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        assert!(error.message.contains("wit/"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_component_are_refused() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"not wasm at all"] {
            assert_eq!(refused(bytes).kind, ErrorKind::Corrupt);
        }
    }
}
