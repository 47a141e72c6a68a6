//! The build script that `cargo xtask mlx-linux` puts into its copy of mlx-sys.
//!
//! The published one compiles MLX itself for an Apple system. This one takes MLX from a Python wheel: it compiles the
//! C interface of the crate against the headers of the wheel, and links the wheel's library.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=wheel-path");
    let packages = PathBuf::from(fs::read_to_string("wheel-path").expect("wheel-path, written by the xtask").trim());
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    let interface = Path::new("src/mlx-c");
    compile_interface(interface, &packages.join("mlx/include"));
    link_library(&packages, &out);
    write_bindings(interface, &packages, &out);
}

fn compile_interface(interface: &Path, include: &Path) {
    let folder = fs::read_dir(interface.join("mlx/c")).expect("the sources of the C interface");
    let files = folder.map(|entry| entry.expect("an entry of the folder").path());
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(1)
        .warnings(false)
        .flag("-include")
        .flag("./format.h")
        .include(interface)
        .include(include)
        .files(files.filter(|path| path.extension().is_some_and(|extension| extension == "cpp")))
        .compile("mlxc");
}

/// Links to the wheel's libraries from the output folder: cargo lets programs find libraries there when it runs them.
/// The library looks for its own ones beside the folder `mlx`, so these are linked to as well.
fn link_library(packages: &Path, out: &Path) {
    for name in ["mlx", "mlx_cpu.libs"] {
        let link = out.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).expect("an old link can be removed");
        }
        symlink(packages.join(name), link).expect("a link to the wheel can be made");
    }
    println!("cargo::rustc-link-search=native={}", out.join("mlx/lib").display());
    println!("cargo::rustc-link-lib=dylib=mlx");
}

fn write_bindings(interface: &Path, packages: &Path, out: &Path) {
    let own = packages.join("clang/native");
    if own.exists() {
        // SAFETY: this program has one thread.
        unsafe { env::set_var("LIBCLANG_PATH", own) };
    }
    // A libclang that came as a Python package has no headers of its own; those of gcc do.
    let cc = Command::new("cc").arg("-print-file-name=include").output().expect("cc can be started");
    let bindings = bindgen::Builder::default()
        .header(interface.join("mlx/c/mlx.h").display().to_string())
        .clang_arg(format!("-I{}", interface.display()))
        .clang_arg(format!("-I{}", String::from_utf8_lossy(&cc.stdout).trim()))
        .generate()
        .expect("bindings can be generated");
    bindings.write_to_file(out.join("bindings.rs")).expect("bindings can be written");
}
