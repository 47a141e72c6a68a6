//! Kernels in the device: a module of code for each source, compiled at the first kernel of it that is asked for.
#![allow(unsafe_code, reason = "calls the driver")]

use super::cache::Cache;
use super::compile::{Compiler, Source, Target};
use super::context::Context;
use super::narrow;
use crate::Result;
use crate::backend::cuda::kernels;
use cudarc::driver::sys::{CUfunction, CUfunction_attribute, CUmodule};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared memory that every block may have; for more a kernel must be told.
const COMMON_SHARED_BYTES: u32 = 48 << 10;

/// What is loaded.
#[derive(Debug)]
pub struct Modules {
    context: Arc<Context>,
    compiler: Compiler,
    cache: Cache,
    target: Target,
    driver: c_int,
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    modules: HashMap<&'static str, CUmodule>,
    functions: HashMap<(&'static str, &'static str), Function>,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    raw: CUfunction,
    /// What its blocks may have by now.
    shared_bytes: u32,
}

// SAFETY: modules and functions may be used from any thread that has entered the context.
unsafe impl Send for Loaded {}

impl Modules {
    /// Nothing is loaded yet.
    pub fn new(context: &Arc<Context>, compiler: Compiler, target: Target, driver: c_int) -> Modules {
        let cache = Cache::of_user();
        Modules { context: context.clone(), compiler, cache, target, driver, loaded: Mutex::default() }
    }

    /// A kernel whose blocks have so much shared memory of their own. It stays as long as this.
    pub fn function(&self, source: &'static str, kernel: &'static str, shared_bytes: u32) -> Result<CUfunction> {
        let calls = self.context.enter()?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { modules, functions } = &mut *loaded;
        let function = match functions.entry((source, kernel)) {
            Entry::Occupied(function) => function.into_mut(),
            Entry::Vacant(place) => {
                let module = match modules.entry(source) {
                    Entry::Occupied(module) => *module.get(),
                    Entry::Vacant(place) => *place.insert(self.load(source)?),
                };
                place.insert(Function { raw: self.look_up(module, source, kernel)?, shared_bytes: COMMON_SHARED_BYTES })
            }
        };
        if shared_bytes > function.shared_bytes {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a module that is loaded.
            let status = unsafe { (calls.cuFuncSetAttribute)(function.raw, attribute, shared_bytes as c_int) };
            self.context.check(status, &format!("{shared_bytes} bytes of shared memory for {source}.cu: {kernel}"))?;
            function.shared_bytes = shared_bytes;
        }
        Ok(function.raw)
    }

    fn load(&self, source: &'static str) -> Result<CUmodule> {
        let text = match source {
            narrow::SOURCE => narrow::TEXT.to_owned(),
            _ => kernels::text(source),
        };
        let code = Source { name: source, text: &text };
        let code = self.compiler.code(&self.cache, &code, self.target, self.driver);
        let code = code.map_err(|what| self.context.failure(what))?;
        let calls = self.context.enter()?;
        let mut module = ptr::null_mut();
        // SAFETY: machine code that is whole, as its hash says, or assembly that ends with a zero.
        let status = unsafe { (calls.cuModuleLoadData)(&mut module, code.as_ptr().cast()) };
        self.context.check(status, &format!("loading {source}.cu, compiled for {}", self.target))?;
        Ok(module)
    }

    fn look_up(&self, module: CUmodule, source: &str, kernel: &str) -> Result<CUfunction> {
        let calls = self.context.enter()?;
        let name = CString::new(kernel).map_err(|_| self.context.failure(format!("a kernel called {kernel:?}")))?;
        let mut function = ptr::null_mut();
        // SAFETY: the module is loaded, and the name ends with a zero.
        let status = unsafe { (calls.cuModuleGetFunction)(&mut function, module, name.as_ptr()) };
        self.context.check(status, &format!("the kernel {kernel} of {source}.cu"))?;
        Ok(function)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        let calls = self.context.enter_to_drop();
        let loaded = self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner);
        for module in loaded.modules.values() {
            // SAFETY: loaded once; the queues are empty, and with this its functions are gone too.
            unsafe { (calls.cuModuleUnload)(*module) };
        }
    }
}
