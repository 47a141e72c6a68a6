//! Compiles kernels for the device that is found, by NVRTC.
#![allow(unsafe_code, reason = "calls NVRTC")]

use super::cache::{Cache, hash_of};
use super::symbols::{Libnvrtc, Status};
use super::texts;
use cudarc::nvrtc::sys::nvrtcProgram;
use std::ffi::{CString, c_char, c_int};
use std::fmt::{self, Display};
use std::ptr;

/// Kernels are C++17 and compute as they are written: no `--use_fast_math`, which would change what `exp` and a
/// division give; where speed is worth it a kernel says so itself.
const OPTIONS: [&str; 2] = ["--std=c++17", "--extra-device-vectorization"];

/// What is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Machine code of a generation: `sm_86`.
    Code(u32),
    /// The driver's assembly, of the newest generation that the compiler knows, when it does not know the device's.
    Assembly(u32),
}

impl Target {
    /// The best for a device of this capability, by a compiler that knows these generations (`[75, 80, ..]`).
    pub fn of(capability: (u32, u32), known: &[u32]) -> Option<Target> {
        let generation = capability.0 * 10 + capability.1;
        let older = known.iter().copied().filter(|known| *known <= generation).max()?;
        // Machine code runs on later devices of the same first number, and on no others.
        Some(if older / 10 == generation / 10 { Target::Code(older) } else { Target::Assembly(older) })
    }
}

impl Display for Target {
    /// As NVRTC wants it. Hopper's code may use what only Hopper has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Code(90) => write!(f, "sm_90a"),
            Target::Code(generation) => write!(f, "sm_{generation}"),
            Target::Assembly(generation) => write!(f, "compute_{generation}"),
        }
    }
}

/// The compiler.
#[derive(Clone, Copy, Debug)]
pub struct Compiler {
    calls: &'static Libnvrtc,
}

impl Compiler {
    /// By this library.
    pub fn new(calls: &'static Libnvrtc) -> Compiler {
        Compiler { calls }
    }

    /// The generations that it compiles for.
    pub fn generations(&self) -> Result<Vec<u32>, String> {
        let mut count = 0;
        // SAFETY: writes to a number of ours.
        self.check(unsafe { (self.calls.nvrtcGetNumSupportedArchs)(&mut count) }, "nvrtcGetNumSupportedArchs")?;
        let mut generations = vec![0; count.max(0) as usize];
        // SAFETY: writes as many numbers as it just told.
        let status = unsafe { (self.calls.nvrtcGetSupportedArchs)(generations.as_mut_ptr()) };
        self.check(status, "nvrtcGetSupportedArchs")?;
        Ok(generations.into_iter().map(|generation: c_int| generation.max(0) as u32).collect())
    }

    /// Its version: `(13, 1)`.
    pub fn version(&self) -> Result<(c_int, c_int), String> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes to numbers of ours.
        self.check(unsafe { (self.calls.nvrtcVersion)(&mut major, &mut minor) }, "nvrtcVersion")?;
        Ok((major, minor))
    }

    /// The code of a source, as the driver loads it, from the cache if it is there. `driver` is the driver's version:
    /// it decides what assembly becomes.
    pub fn code(&self, cache: &Cache, source: &Source, target: Target, driver: c_int) -> Result<Vec<u8>, String> {
        let name = self.name_in_cache(source, target, driver)?;
        if let Some(code) = cache.read(&name) {
            return Ok(code);
        }
        let code = self.compile(source, target)?;
        cache.write(&name, &code);
        Ok(code)
    }

    /// What the code of a source is called in the cache: another name for all that makes another code.
    pub fn name_in_cache(&self, source: &Source, target: Target, driver: c_int) -> Result<String, String> {
        let version = format!("{:?} {driver}", self.version()?);
        let options = OPTIONS.join(" ");
        let target = target.to_string();
        let hash = hash_of(&[source.text, &options, &target, &version].map(str::as_bytes));
        Ok(format!("{}-{target}-{hash:032x}.bin", source.name))
    }

    /// The code of a source.
    ///
    /// # Errors
    /// What the compiler says about the text.
    pub fn compile(&self, source: &Source, target: Target) -> Result<Vec<u8>, String> {
        let what = format!("compiling {}.cu for {target}", source.name);
        let text = c_string(source.text)?;
        let name = c_string(&format!("{}.cu", source.name))?;
        let mut program = Program { calls: self.calls, raw: ptr::null_mut() };
        // SAFETY: texts end with zeros and are copied; there are no headers.
        let status = unsafe {
            let (none, names) = (ptr::null(), ptr::null());
            (self.calls.nvrtcCreateProgram)(&mut program.raw, text.as_ptr(), name.as_ptr(), 0, none, names)
        };
        self.check(status, &what)?;
        let architecture = format!("--gpu-architecture={target}");
        let options = OPTIONS.into_iter().chain([architecture.as_str()]).map(c_string);
        let options = options.collect::<Result<Vec<CString>, String>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program is there, and the options live as long as the call.
        let status =
            unsafe { (self.calls.nvrtcCompileProgram)(program.raw, pointers.len() as c_int, pointers.as_ptr()) };
        if status != 0 {
            let error = self.check(status, &what).expect_err("a status that is not 0");
            return Err(format!("{error}\n{}", program.log()));
        }
        program.code(target).map_err(|status| self.check(status, &what).expect_err("a status that is not 0"))
    }

    fn check(&self, status: Status, what: &str) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the library's names are static strings.
        let text = unsafe { texts::of_error(status, (self.calls.nvrtcGetErrorString)(status), ptr::null()) };
        Err(format!("{what}: {text}"))
    }
}

/// A source file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'s> {
    /// Without `.cu`.
    pub name: &'s str,
    /// All of it.
    pub text: &'s str,
}

/// A program of the compiler.
struct Program {
    calls: &'static Libnvrtc,
    raw: nvrtcProgram,
}

impl Program {
    /// What the compiler said.
    fn log(&self) -> String {
        let mut bytes = 0;
        // SAFETY: the program is there, and the number is ours.
        if unsafe { (self.calls.nvrtcGetProgramLogSize)(self.raw, &mut bytes) } != 0 {
            return String::new();
        }
        let mut log = vec![0 as c_char; bytes];
        // SAFETY: the log is of the size just told.
        unsafe { (self.calls.nvrtcGetProgramLog)(self.raw, log.as_mut_ptr()) };
        texts::of_chars(&log)
    }

    /// Machine code, or assembly with the zero at its end.
    fn code(&self, target: Target) -> Result<Vec<u8>, Status> {
        let (size_of, write) = match target {
            Target::Code(_) => (self.calls.nvrtcGetCUBINSize, self.calls.nvrtcGetCUBIN),
            Target::Assembly(_) => (self.calls.nvrtcGetPTXSize, self.calls.nvrtcGetPTX),
        };
        let mut bytes = 0;
        // SAFETY: the program is compiled, and the number is ours.
        let status = unsafe { size_of(self.raw, &mut bytes) };
        if status != 0 {
            return Err(status);
        }
        let mut code = vec![0u8; bytes];
        // SAFETY: the code is of the size just told.
        match unsafe { write(self.raw, code.as_mut_ptr().cast()) } {
            0 => Ok(code),
            status => Err(status),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made once, destroyed once.
            unsafe { (self.calls.nvrtcDestroyProgram)(&mut self.raw) };
        }
    }
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a source with a zero in it: this is a bug".to_owned())
}
