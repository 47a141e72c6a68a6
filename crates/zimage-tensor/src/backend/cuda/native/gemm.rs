//! Products of matrices by cuBLASLt, each by the algorithm that was fastest when it was first computed.
//!
//! cuBLASLt has hundreds of kernels, and proposes some for a shape by rules of its own, which do not always put the
//! fastest first. So all proposals are tried once, on the real factors, and what was found is stored for the next
//! process: see `fastest.rs`.
#![allow(unsafe_code, reason = "calls cuBLASLt")]

use super::cache::Cache;
use super::context::{Context, Event, Stream, milliseconds, wait_for};
use super::descriptors::{Layout, Operation, Preference, Proposal, check};
use super::fastest::Fastest;
use super::memory::DeviceMemory;
use super::product::Product;
use super::symbols::LibcublasLt;
use crate::Result;
use crate::backend::cuda::driver::{Address, Element, Gemm, Properties};
use cudarc::cublaslt::sys::{cublasLtHandle_t, cublasLtMatmulAlgo_t};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

/// Proposals that are tried.
const PROPOSALS: usize = 8;
/// How often each is timed, after one run that loads it.
const RUNS: usize = 3;
/// What is smaller takes the first proposal: it is over before the next launch arrives.
const WORTH_TRYING: f64 = 1e9;
/// Memory that algorithms may use, as NVIDIA advises: Hopper's use more.
const WORKSPACE: usize = 32 << 20;
const WORKSPACE_OF_HOPPER: usize = 64 << 20;
/// The longest bias in 16 bits.
const BIAS_LEN: usize = 1 << 17;

/// A result, or what cuBLASLt said.
type Said<T> = std::result::Result<T, String>;

/// Multiplies matrices on one device.
#[derive(Debug)]
pub struct Multiplier {
    context: Arc<Context>,
    calls: &'static LibcublasLt,
    handle: cublasLtHandle_t,
    workspace: DeviceMemory,
    workspace_bytes: usize,
    bias: DeviceMemory,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    plans: HashMap<Product, Plan>,
    fastest: Fastest,
}

/// How a product is computed.
#[derive(Debug)]
struct Plan {
    operation: Operation,
    a: Layout,
    b: Layout,
    d: Layout,
    algorithm: cublasLtMatmulAlgo_t,
}

// SAFETY: the handle may be used from any thread; descriptors are used under the lock.
unsafe impl Send for Multiplier {}
// SAFETY: see above.
unsafe impl Sync for Multiplier {}

// SAFETY: nothing in it has a thread.
unsafe impl Send for State {}

impl Multiplier {
    /// Ready for a device.
    pub fn new(context: &Arc<Context>, calls: &'static LibcublasLt, properties: &Properties) -> Result<Multiplier> {
        context.enter()?;
        let workspace_bytes = if properties.capability >= (9, 0) { WORKSPACE_OF_HOPPER } else { WORKSPACE };
        let workspace = DeviceMemory::new(context, workspace_bytes)?;
        let bias = DeviceMemory::new(context, BIAS_LEN * Element::Bf16.bytes())?;
        let mut handle = ptr::null_mut();
        // SAFETY: writes to a handle of ours.
        let status = unsafe { (calls.cublasLtCreate)(&mut handle) };
        check(calls, status, "cublasLtCreate").map_err(|what| context.failure(what))?;
        // SAFETY: takes nothing.
        let version = unsafe { (calls.cublasLtGetVersion)() };
        let fastest = Fastest::new(Cache::of_user(), properties, version);
        let state = Mutex::new(State { plans: HashMap::new(), fastest });
        Ok(Multiplier { context: context.clone(), calls, handle, workspace, workspace_bytes, bias, state })
    }

    /// Puts a product into a queue. All go into the same one: they share their workspace. `narrow` puts a copy of a
    /// bias in another element into it: `(to, from, element)`.
    pub fn multiply(
        &self,
        gemm: &Gemm,
        stream: &Stream,
        narrow: impl FnOnce(Address, Address, Element) -> Result<()>,
    ) -> Result<()> {
        if gemm.m == 0 || gemm.n == 0 {
            return Ok(());
        }
        let product = Product::of(gemm).map_err(|what| self.context.failure(what))?;
        self.context.enter()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bias = match (gemm.bias, product.bias) {
            (Some(bias), Some(Element::F32)) => Some(bias),
            (Some(_), Some(_)) if gemm.n > BIAS_LEN => {
                return Err(self.context.failure(format!("a bias of {} values; {BIAS_LEN} are possible", gemm.n)));
            }
            (Some(bias), Some(element)) => {
                narrow(self.bias.address(), bias, element)?;
                Some(self.bias.address())
            }
            _ => None,
        };
        let State { plans, fastest } = &mut *state;
        let plan = match plans.entry(product) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => place.insert(self.plan(gemm, &product, bias, fastest, stream)?),
        };
        if let Some(bias) = bias {
            plan.operation.set_bias(bias).map_err(|what| self.failure(gemm, &what))?;
        }
        self.run(plan, gemm, &plan.algorithm, stream).map_err(|what| self.failure(gemm, &what))
    }

    /// Whether it is decided how a product is computed: then it is only put into the queue.
    pub fn knows(&self, gemm: &Gemm) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        gemm.m == 0 || gemm.n == 0 || Product::of(gemm).is_ok_and(|product| state.plans.contains_key(&product))
    }

    /// Decides how a product is computed.
    fn plan(
        &self,
        gemm: &Gemm,
        product: &Product,
        bias: Option<Address>,
        fastest: &mut Fastest,
        stream: &Stream,
    ) -> Result<Plan> {
        let name = product.name();
        let mut plan = self.describe(product, bias).map_err(|what| self.failure(gemm, &what))?;
        if let Some(known) = fastest.get(&name)
            && self.fits(&plan, &known)
        {
            return Ok(Plan { algorithm: known, ..plan });
        }
        let proposals = self.proposals(&plan, product).map_err(|what| self.failure(gemm, &what))?;
        plan.algorithm = match &proposals[..] {
            [] => return Err(self.failure(gemm, "cuBLASLt has no algorithm for it on this device")),
            [first, rest @ ..] if rest.is_empty() || product.flop() < WORTH_TRYING => first.algorithm,
            all => {
                let best = self.try_all(&plan, gemm, all, stream)?;
                fastest.set(name, best);
                best
            }
        };
        Ok(plan)
    }

    fn describe(&self, product: &Product, bias: Option<Address>) -> Said<Plan> {
        let operation = Operation::new(self.calls, product)?;
        if let Some(bias) = bias {
            operation.set_bias(bias)?;
        }
        Ok(Plan {
            operation,
            a: Layout::new(self.calls, &product.a)?,
            b: Layout::new(self.calls, &product.b)?,
            d: Layout::new(self.calls, &product.d)?,
            algorithm: Proposal::NONE.algorithm,
        })
    }

    /// Whether an algorithm that was found for another number of rows, or by another process, does this product too.
    fn fits(&self, plan: &Plan, algorithm: &cublasLtMatmulAlgo_t) -> bool {
        let mut result = [Proposal::NONE];
        let (a, b, d) = (plan.a.raw(), plan.b.raw(), plan.d.raw());
        let (operation, place) = (plan.operation.raw(), Proposal::places(&mut result));
        // SAFETY: all handles are alive, and there is a place for the one result.
        let status =
            unsafe { (self.calls.cublasLtMatmulAlgoCheck)(self.handle, operation, a, b, d, d, algorithm, place) };
        status == 0 && result[0].workspace <= self.workspace_bytes
    }

    /// What cuBLASLt would take, what it thinks best first.
    fn proposals(&self, plan: &Plan, product: &Product) -> Said<Vec<Proposal>> {
        let preference = Preference::new(self.calls, product, self.workspace_bytes)?;
        let mut proposals = [Proposal::NONE; PROPOSALS];
        let mut count = 0;
        let (a, b, d) = (plan.a.raw(), plan.b.raw(), plan.d.raw());
        let (operation, preference) = (plan.operation.raw(), preference.raw());
        let places = Proposal::places(&mut proposals);
        // SAFETY: all handles are alive, and there are as many places as are asked for.
        let status = unsafe {
            let (most, count) = (PROPOSALS as i32, &mut count);
            (self.calls.cublasLtMatmulAlgoGetHeuristic)(
                self.handle,
                operation,
                a,
                b,
                d,
                d,
                preference,
                most,
                places,
                count,
            )
        };
        check(self.calls, status, "choosing an algorithm")?;
        let found = proposals.into_iter().take(count.max(0) as usize);
        Ok(found.filter(|found| found.status == 0).collect())
    }

    /// Computes the product by each proposal, and gives the fastest.
    fn try_all(
        &self,
        plan: &Plan,
        gemm: &Gemm,
        proposals: &[Proposal],
        stream: &Stream,
    ) -> Result<cublasLtMatmulAlgo_t> {
        let mut spans = Vec::new();
        let mut refused = String::new();
        for Proposal { algorithm, .. } in proposals {
            let (from, to) = (Event::new(&self.context)?, Event::new(&self.context)?);
            if let Err(what) = self.run(plan, gemm, algorithm, stream) {
                refused = what;
                continue;
            }
            from.record(stream)?;
            let runs = (0..RUNS).try_for_each(|_| self.run(plan, gemm, algorithm, stream));
            runs.map_err(|what| self.failure(gemm, &what))?;
            to.record(stream)?;
            spans.push((algorithm, from, to));
        }
        let mut best: Option<(f32, cublasLtMatmulAlgo_t)> = None;
        for (algorithm, from, to) in spans {
            wait_for(&self.context, to.raw())?;
            let time = milliseconds(&self.context, from.raw(), to.raw())?;
            if best.is_none_or(|(shortest, _)| time < shortest) {
                best = Some((time, *algorithm));
            }
        }
        best.map(|(_, algorithm)| algorithm).ok_or_else(|| self.failure(gemm, &refused))
    }

    /// Puts one product into the queue.
    fn run(&self, plan: &Plan, gemm: &Gemm, algorithm: &cublasLtMatmulAlgo_t, stream: &Stream) -> Said<()> {
        // The factors are of the type of the sums. Nothing is read of C, since its factor is 0.
        let (one, zero) = (1i32, 0i32);
        let (alpha, beta): (*const c_void, *const c_void) = match gemm.x.element {
            Element::I8 => (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast()),
            _ => (ptr::from_ref(&gemm.scale).cast(), ptr::from_ref(&0f32).cast()),
        };
        let [w, x, y] = [gemm.w, gemm.x, gemm.y].map(|matrix| matrix.address.0 as *mut c_void);
        let (a, b, d) = (plan.a.raw(), plan.b.raw(), plan.d.raw());
        let workspace = self.workspace.address().0 as *mut c_void;
        // SAFETY: handles are alive, the two factors are read before the call returns, and the rest is device memory of
        // the sizes that the layouts say; the workspace is used by one product after the other, as the queue does them.
        let status = unsafe {
            (self.calls.cublasLtMatmul)(
                self.handle,
                plan.operation.raw(),
                alpha,
                w,
                a,
                x,
                b,
                beta,
                y,
                d,
                y,
                d,
                algorithm,
                workspace,
                self.workspace_bytes,
                stream.raw().cast(),
            )
        };
        check(self.calls, status, "cublasLtMatmul")
    }

    fn failure(&self, gemm: &Gemm, what: &str) -> crate::Error {
        let Gemm { m, n, k, x, y, .. } = gemm;
        let product = format!("({m}, {k}) by ({n}, {k}) of {:?} to {:?}", x.element, y.element);
        self.context.failure(format!("multiplying {product}: {what}"))
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        self.context.enter_to_drop();
        // SAFETY: made in `new`, and the queue is empty.
        unsafe { (self.calls.cublasLtDestroy)(self.handle) };
    }
}
