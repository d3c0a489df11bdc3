//! Builds the component that this library embeds: `guest/component` for wasm32-unknown-unknown,
//! then componentised. In a package, outside of the repository, the component is there already.
//!
//! Before `src/plugin.rs`, which embeds the result. Invariant: the bytes depend on the sources and
//! the toolchain alone, not on directories, features or flags of the host's build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";
/// If it is set, the build adds no target to the toolchain.
const FORBIDDEN: &str = "UPSERT_SINK_NO_RUSTUP";
/// The sources of the component; the guest's tests are no part of it.
const WATCHED: [&str; 9] = [
    "guest/format/src",
    "guest/format/Cargo.toml",
    "guest/core/src",
    "guest/core/Cargo.toml",
    "guest/component/src",
    "guest/component/Cargo.toml",
    "wit",
    "Cargo.lock",
    "Cargo.toml",
];

/// Where a package has the contract and the component.
const PACKAGED: &str = "packaged";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(packaged)");
    let out = PathBuf::from(variable("OUT_DIR"));
    let Some(workspace) = workspace() else {
        println!("cargo::rustc-cfg=packaged");
        println!("cargo::rerun-if-changed={PACKAGED}");
        let component = read(&Path::new(PACKAGED).join("upsert_sink.wasm"));
        return write_component(&out, component);
    };
    require_target();
    for path in WATCHED {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-env-changed=UPSERT_SINK_COMPONENT");
    let component = match env::var_os("UPSERT_SINK_COMPONENT") {
        Some(ready) => read(Path::new(&ready)),
        None => componentise(&read(&build_guest(&workspace, &out))),
    };
    write_component(&out, component);
}

fn write_component(out: &Path, component: Vec<u8>) {
    fs::write(out.join("upsert_sink.wasm"), component).expect("OUT_DIR can be written");
}

/// The guest needs the target's standard library. rustup adds it where it is missing, and the build
/// says so, because that changes the toolchain; a variable forbids it.
fn require_target() {
    println!("cargo::rerun-if-env-changed={FORBIDDEN}");
    if env::var_os("UPSERT_SINK_COMPONENT").is_some() || target_is_installed() {
        return;
    }
    let remedy = format!("run `rustup target add {TARGET}` in this directory, and build again");
    assert!(
        env::var_os(FORBIDDEN).is_none(),
        "the target {TARGET} is not installed, and {FORBIDDEN} forbids to add it: {remedy}"
    );
    println!("cargo::warning=the target {TARGET} is missing: adding it by `rustup target add`");
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    assert!(
        added.is_ok_and(|status| status.success()) && target_is_installed(),
        "the target {TARGET} is not installed, and rustup could not add it: {remedy}; a toolchain \
         without rustup must bring the target along"
    );
}

fn target_is_installed() -> bool {
    let mut rustc = Command::new(variable("RUSTC"));
    let printed = rustc.args(["--print", "target-libdir", "--target", TARGET]).output();
    printed.is_ok_and(|printed| {
        let directory = String::from_utf8_lossy(&printed.stdout);
        Path::new(directory.trim()).is_dir()
    })
}

/// Runs the nested build, in a target directory of its own: cargo's lock of the outer one is held.
fn build_guest(workspace: &Path, out: &Path) -> PathBuf {
    let target_dir = out.join("guest-target");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "-p", "upsert-sink-guest", "--lib", "--profile", "guest", "--locked"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", flags(workspace));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_build) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo, which runs this script, can be run");
    assert!(
        status.success(),
        "the guest did not build for {TARGET}; if the target is missing: rustup target add {TARGET}"
    );
    target_dir.join(TARGET).join("guest").join("upsert_sink_guest.wasm")
}

/// Variables that the outer build, or clippy, has set for itself and that would change the guest.
fn is_of_outer_build(name: &str) -> bool {
    let set_by_wrappers = [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        "CARGO_INCREMENTAL",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "CLIPPY_TERMINAL_WIDTH",
    ];
    let of_this_crate = ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PROFILE_", "CARGO_TARGET_WASM32_"];
    set_by_wrappers.contains(&name) || of_this_crate.iter().any(|prefix| name.starts_with(prefix))
}

/// Paths are mapped away: they would otherwise differ from clone to clone. Names are stripped:
/// nothing reads them. Loops keep their own counters and offsets: LLVM would merge them into
/// addresses that it thinks cheap, and that the sandbox's compiler has to take apart again
/// (`hot-path` shows rows that are not merged 7 % nearer to native without).
fn flags(workspace: &Path) -> String {
    let mut flags = String::from("-Ctarget-feature=+simd128 -Cpanic=abort -Cstrip=symbols");
    flags += " -Cllvm-args=-disable-lsr";
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    if let Some(cargo_home) = cargo_home {
        flags += &format!(" --remap-path-prefix={}=/cargo", cargo_home.display());
    }
    flags + &format!(" --remap-path-prefix={}=/upsert-sink", workspace.display())
}

fn componentise(module: &[u8]) -> Vec<u8> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("the guest is no component of wit/: {error:#}"))
}

/// The repository around this crate; none in a package.
fn workspace() -> Option<PathBuf> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2)?;
    root.join("guest/component/Cargo.toml").is_file().then(|| root.to_path_buf())
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
