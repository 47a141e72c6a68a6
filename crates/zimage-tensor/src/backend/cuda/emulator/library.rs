//! Sources of kernels as shared libraries, made by the system's C++ compiler and kept beside the program.

#![allow(unsafe_code)] // Kernels are functions of a library that is loaded at run time.

use super::super::driver::Launch;
use super::super::kernels;
use super::failure;
use crate::{Error, Result};
use libloading::Library;
use rayon::prelude::*;
use std::collections::HashMap;
use std::error::Error as _;
use std::ffi::{CStr, OsStr, OsString, c_char, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// How sources are compiled. Optimized, since a picture is millions of threads; without fused multiply-adds where the
/// source has none, so that machines agree.
const FLAGS: [&str; 7] = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-w", "-ffp-contract=off"];
/// A device's own bounds.
const MOST_THREADS: u32 = 1024;
const MOST_BLOCKS_Y: u32 = 65_535;
/// Threads that are worth a thread of the CPU.
const WORTH_A_THREAD: u32 = 4096;

type Kernel = unsafe extern "C" fn(*const c_void);
type Run = unsafe extern "C" fn(Kernel, *const c_void, *const u32, u32, u32, u32) -> *const c_char;

/// More flags, by what this machine has: a fused multiply-add is one instruction, as on a device.
fn machine_flags() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return &["-mavx2", "-mfma"];
    }
    &[]
}

/// The C++ compiler: `$CXX`, or `c++`.
fn compiler() -> OsString {
    std::env::var_os("CXX").unwrap_or_else(|| "c++".into())
}

/// Whether there is a C++ compiler.
pub fn find_compiler() -> Result<()> {
    runs(&compiler())
}

/// Whether a compiler of this name runs.
pub(super) fn runs(compiler: &OsStr) -> Result<()> {
    match Command::new(compiler).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Error::Unavailable {
            what: format!("the emulator needs a C++ compiler, and {} does not run", compiler.display()),
            hint: "install one, or set CXX to its name".into(),
        }),
    }
}

/// A source, compiled and loaded.
#[derive(Debug)]
pub struct Source {
    library: Library,
}

/// A source by its name; it is compiled when it is first asked for, and stays loaded, since threads keep its stacks.
pub fn source(name: &'static str) -> Result<&'static Source> {
    static LOADED: Mutex<Option<HashMap<&'static str, &'static Source>>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(source) = loaded.get(name) {
        return Ok(source);
    }
    let path = compile(name)?;
    // SAFETY: nothing runs when this library is loaded.
    let library = unsafe { Library::new(&path) };
    let library = library.map_err(|error| {
        let reason = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
        failure(format!("{} cannot be loaded: {reason}", path.display()))
    })?;
    let source: &'static Source = Box::leak(Box::new(Source { library }));
    loaded.insert(name, source);
    Ok(source)
}

/// The library of a source, which may be there from an earlier run.
fn compile(name: &str) -> Result<PathBuf> {
    let text = [include_str!("emulator.h"), include_str!("warpgroups.h"), &kernels::text(name)].join("\n");
    let compiler = compiler();
    let mut hasher = DefaultHasher::new();
    (&text, FLAGS, machine_flags(), &compiler).hash(&mut hasher);
    let hash = hasher.finish();
    let unwritable = |path: &Path, error| failure(format!("{}: {error}", path.display()));
    let program = std::env::current_exe().map_err(|error| unwritable(Path::new("this program"), error))?;
    let folder = program.with_file_name("cuda-emulator");
    std::fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, error))?;
    let done = folder.join(format!("{name}-{hash:016x}.so"));
    if done.exists() {
        return Ok(done);
    }
    // Other processes may do the same now: each has names of its own until the library is whole.
    let input = folder.join(format!("{name}-{}.cpp", std::process::id()));
    let output = input.with_extension("part");
    std::fs::write(&input, text).map_err(|error| unwritable(&input, error))?;
    let result = Command::new(&compiler).args(FLAGS).args(machine_flags()).arg("-o").args([&output, &input]).output();
    let result = result.map_err(|error| unwritable(Path::new(&compiler), error))?;
    if !result.status.success() {
        let message = String::from_utf8_lossy(&result.stderr);
        return Err(failure(format!("{name}.cu does not compile\n{message}")));
    }
    std::fs::rename(&output, &done).map_err(|error| unwritable(&done, error))?;
    std::fs::remove_file(&input).map_err(|error| unwritable(&input, error))?;
    Ok(done)
}

impl Source {
    fn symbol<T: Copy>(&self, name: &str) -> std::result::Result<T, String> {
        // SAFETY: the macros of primitives.cuh and emulator.h give these names to functions of these types.
        let symbol = unsafe { self.library.get::<T>(name.as_bytes()) };
        symbol.map(|symbol| *symbol).map_err(|_| format!("there is no {name}"))
    }

    /// Runs a kernel, as a device would that lets a block ask for so much shared memory.
    pub fn launch(&self, launch: &Launch, most_shared: u32) -> std::result::Result<(), String> {
        let kernel: Kernel = self.symbol(launch.kernel)?;
        let number = |what: &str| -> std::result::Result<u32, String> {
            let function: unsafe extern "C" fn() -> u32 = self.symbol(&format!("{}_{what}", launch.kernel))?;
            // SAFETY: these functions take nothing and give a constant.
            Ok(unsafe { function() })
        };
        let (taken, bound) = (number("bytes")? as usize, number("bound")?.min(MOST_THREADS));
        let given = launch.args.bytes();
        // What stands at the end of a struct to fill it up is less than its largest member.
        if given.len() > taken || taken - given.len() >= 8 {
            return Err(format!("it takes {taken} bytes of arguments, and {} are given", given.len()));
        }
        let Launch { threads, shared_bytes, grid, .. } = *launch;
        if threads == 0 || !threads.is_multiple_of(32) || threads > bound {
            return Err(format!("blocks of {threads} threads, of at most {bound}"));
        }
        if shared_bytes > most_shared || grid[1] > MOST_BLOCKS_Y || grid[2] > MOST_BLOCKS_Y || grid.contains(&0) {
            return Err(format!("{grid:?} blocks with {shared_bytes} bytes of shared memory are not possible"));
        }
        self.run(kernel, given, launch)
    }

    fn run(&self, kernel: Kernel, given: &[u8], launch: &Launch) -> std::result::Result<(), String> {
        let run: Run = self.symbol("emulator_run")?;
        // Eight bytes more than there are members; a size that is missing among them would be huge.
        let mut words = vec![u64::MAX; given.len() / 8 + 2];
        for (word, bytes) in words.iter_mut().zip(given.chunks(8)) {
            let mut all = word.to_le_bytes();
            all[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(all);
        }
        let [x, y, z] = launch.grid.map(|count| count as usize);
        let block = |index: usize| {
            let block = [index % x, index / x % y, index / (x * y)].map(|place| place as u32);
            // SAFETY: the kernel takes no more than `words` has, and `block` has three numbers. What it does with the
            // addresses in them is its own affair, as on a device. The message is a constant of the library.
            unsafe {
                let args = words.as_ptr().cast();
                let message = run(kernel, args, block.as_ptr(), launch.grid[0], launch.threads, launch.shared_bytes);
                (!message.is_null()).then(|| CStr::from_ptr(message).to_string_lossy().into_owned())
            }
        };
        let blocks_at_once = (WORTH_A_THREAD / launch.threads).max(1) as usize;
        let indices = (0..x * y * z).into_par_iter().with_min_len(blocks_at_once);
        indices.find_map_any(block).map_or(Ok(()), Err)
    }
}
