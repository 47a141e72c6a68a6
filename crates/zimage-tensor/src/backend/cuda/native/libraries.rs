//! Finds CUDA's libraries on this machine, and says which one is missing.
//!
//! A library is looked for in the folders of `ZIMAGE_CUDA_LIBS`, then where the system's loader looks, then where the
//! CUDA toolkit, conda and the wheels of PyPI put it. Once loaded it stays for the life of the process.
#![allow(unsafe_code, reason = "loading a library runs code of it")]

use super::symbols::{LibcublasLt, Libcuda, Libnvrtc};
use crate::{Error, Result};
use libloading::Library;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Names folders that are looked into before all others.
const FOLDERS: &str = "ZIMAGE_CUDA_LIBS";
/// The functions of a library, or the name of one that it lacks.
type Found<T> = std::result::Result<T, &'static str>;

/// The oldest CUDA whose libraries multiply fp8 and whose driver loads their code.
const OLDEST: u32 = 12;

/// The driver, which NVIDIA's installer puts there.
pub fn libcuda() -> Result<&'static Libcuda> {
    static FOUND: OnceLock<Libcuda> = OnceLock::new();
    let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    let hint = "install NVIDIA's driver, or compute on the CPU with --device cpu";
    once(&FOUND, &[name.to_owned()], &folders(), hint, Libcuda::find)
}

/// The compiler, of a CUDA that a driver of version `driver` (13 for 13.x) can load code of.
pub fn libnvrtc(driver: u32) -> Result<&'static Libnvrtc> {
    static FOUND: OnceLock<Libnvrtc> = OnceLock::new();
    let names = names(driver, |major| format!("libnvrtc.so.{major}"), |major| format!("nvrtc64_{major}0_0.dll"));
    once(&FOUND, &names, &folders(), &toolkit_hint(driver), Libnvrtc::find)
}

/// Products of matrices, of a CUDA that a driver of version `driver` can run.
pub fn libcublaslt(driver: u32) -> Result<&'static LibcublasLt> {
    static FOUND: OnceLock<LibcublasLt> = OnceLock::new();
    let names = names(driver, |major| format!("libcublasLt.so.{major}"), |major| format!("cublasLt64_{major}.dll"));
    once(&FOUND, &names, &folders(), &toolkit_hint(driver), LibcublasLt::find)
}

/// Names of a library, the one that came with the driver first. A driver runs what is older than itself, not what is
/// newer.
fn names(driver: u32, unix: impl Fn(u32) -> String, windows: impl Fn(u32) -> String) -> Vec<String> {
    (OLDEST..=driver).rev().map(|major| if cfg!(windows) { windows(major) } else { unix(major) }).collect()
}

/// What to install, for a driver of this version. The wheels' names lost their suffix with CUDA 13.
pub(super) fn toolkit_hint(driver: u32) -> String {
    let wheels = match driver {
        ..=12 => "nvidia-cuda-nvrtc-cu12 nvidia-cublas-cu12",
        _ => "nvidia-cuda-nvrtc nvidia-cublas",
    };
    let path = if cfg!(windows) { "PATH" } else { "LD_LIBRARY_PATH" };
    format!(
        "install the CUDA toolkit {driver}, or `pip install {wheels}`; if it is not found then, name its folders in \
         {FOLDERS} or {path}; or compute on the CPU with --device cpu"
    )
}

/// Loads a library at the first call that finds it.
fn once<T>(
    found: &'static OnceLock<T>,
    names: &[String],
    folders: &[PathBuf],
    hint: &str,
    find: impl Fn(&Library) -> Found<T>,
) -> Result<&'static T> {
    if let Some(table) = found.get() {
        return Ok(table);
    }
    let table = load(names, folders, hint, find)?;
    Ok(found.get_or_init(|| table))
}

/// Loads the first library that there is and looks its symbols up.
pub(super) fn load<T>(
    names: &[String],
    folders: &[PathBuf],
    hint: &str,
    find: impl Fn(&Library) -> Found<T>,
) -> Result<T> {
    let unavailable = |what: String| Error::Unavailable { what, hint: hint.to_owned() };
    // A file that is there and cannot be loaded tells more than all those that are not.
    let mut broken = None;
    for path in candidates(names, folders) {
        // SAFETY: these are NVIDIA's libraries by their names, whose initialization has no demands.
        match unsafe { Library::new(&path) } {
            Ok(library) => {
                let table = find(&library)
                    .map_err(|symbol| unavailable(format!("{} is too old: it has no {symbol}", path.display())))?;
                // Function pointers into it are kept, and it must be there while threads of its own run.
                std::mem::forget(library);
                return Ok(table);
            }
            Err(error) if path.is_file() => {
                broken.get_or_insert(format!("{} could not be loaded: {error}", path.display()));
            }
            Err(_) => {}
        }
    }
    Err(unavailable(broken.unwrap_or_else(|| format!("CUDA cannot be used: {} was not found", names.join(" or ")))))
}

/// Where a library may be. All places of a newer version come before those of an older one.
fn candidates(names: &[String], folders: &[PathBuf]) -> Vec<PathBuf> {
    let first = env::var_os(FOLDERS).map(|value| env::split_paths(&value).collect::<Vec<PathBuf>>());
    let first = first.unwrap_or_default();
    let of_name = |name: &String| {
        let named = first.iter().map(|folder| folder.join(name));
        named.chain([PathBuf::from(name)]).chain(folders.iter().map(|folder| folder.join(name))).collect::<Vec<_>>()
    };
    names.iter().flat_map(of_name).collect()
}

/// The usual places that the system's loader does not know.
pub(super) fn folders() -> Vec<PathBuf> {
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let toolkits = toolkits.chain([PathBuf::from("/usr/local/cuda")]);
    let mut folders: Vec<PathBuf> =
        toolkits.flat_map(|root| ["lib64", "bin", "bin/x64"].map(|inner| root.join(inner))).collect();
    folders.push(PathBuf::from("/usr/lib/wsl/lib"));
    for root in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from) {
        folders.extend([root.join("lib"), root.join("Library/bin")]);
        folders.extend(wheels(&root));
    }
    folders
}

/// Where the wheels of PyPI keep the libraries: `nvidia/cu13/lib`, or a folder for each library before CUDA 13.
fn wheels(root: &Path) -> Vec<PathBuf> {
    let pythons = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
    let packages = pythons.map(|python| python.join("site-packages")).chain([root.join("Lib/site-packages")]);
    let inner = ["cu13/lib", "cuda_nvrtc/lib", "cublas/lib", "cu13/bin/x86_64", "cuda_nvrtc/bin", "cublas/bin"];
    packages.flat_map(|packages| inner.map(|inner| packages.join("nvidia").join(inner))).collect()
}
