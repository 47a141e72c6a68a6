//! MLX itself, through its C interface: the only place here that calls foreign functions.
//!
//! MLX only notes what is to be computed until somebody needs the values. Its notes are shared between arrays, and it
//! does not guard them; so all calls of this process happen one after the other, under one lock. That costs nothing:
//! there is one GPU, and noting an operation takes microseconds.
//!
//! A call can fail, for instance for want of memory. The first failure is remembered, and the result is an array without
//! values, with which every later operation fails as well.
#![allow(unsafe_code)]

use super::Element;
use crate::{Error, MemoryUse, Result};
use mlx_sys::{mlx_array, mlx_stream};
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// Held during every call.
static LOCK: Mutex<()> = Mutex::new(());

thread_local! {
    /// What MLX said about the call of this thread that failed last.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The array that stands for none.
const NONE: mlx_array = mlx_array { ctx: null_mut() };

/// A handle of MLX on its best device.
#[derive(Debug)]
pub struct Port {
    stream: mlx_stream,
    name: String,
    is_gpu: bool,
    /// How much memory it should use at most.
    memory_bytes: usize,
    failure: Mutex<Option<Error>>,
}

/// An array of MLX: a counted reference to an operation and its result.
#[derive(Debug)]
pub struct Array(mlx_array);

// SAFETY: the stream was made for use by any thread, under a lock, which every call takes.
unsafe impl Send for Port {}
// SAFETY: as above.
unsafe impl Sync for Port {}
// SAFETY: MLX counts references atomically; all else that it does with an array happens under the lock.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

/// The array that a function of MLX makes of arrays and numbers.
macro_rules! call {
    ($port:ident, $function:ident($($argument:expr),*)) => {
        $port.made(stringify!($function), |out, stream| {
            // SAFETY: `out` is a place for an array, operands are arrays that are borrowed until this returns or are the
            // one that stands for none, and `made` holds the lock.
            unsafe { mlx_sys::$function(out, $($argument,)* stream) }
        })
    };
    // The same with a list of whole numbers after the first array.
    ($port:ident, $function:ident($array:expr; $list:expr)) => {{
        let list = ints($list);
        call!($port, $function($array, list.as_ptr(), list.len()))
    }};
}

impl Array {
    /// What its values are.
    pub fn element(&self) -> Element {
        if self.0.ctx.is_null() {
            return Element::F32;
        }
        let _lock = lock();
        // SAFETY: it is an array.
        match unsafe { mlx_sys::mlx_array_dtype(self.0) } {
            mlx_sys::mlx_dtype__MLX_FLOAT16 => Element::F16,
            mlx_sys::mlx_dtype__MLX_BFLOAT16 => Element::Bf16,
            mlx_sys::mlx_dtype__MLX_UINT32 => Element::U32,
            _ => Element::F32,
        }
    }
}

impl Clone for Array {
    fn clone(&self) -> Array {
        let mut copy = NONE;
        if !self.0.ctx.is_null() {
            let _lock = lock();
            // SAFETY: it is an array, and the copy is a place for one.
            unsafe { mlx_sys::mlx_array_set(&mut copy, self.0) };
        }
        Array(copy)
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        let _lock = lock();
        // SAFETY: this was its owner.
        unsafe { mlx_sys::mlx_array_free(self.0) };
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _lock = lock();
        // SAFETY: this was its owner.
        unsafe { mlx_sys::mlx_stream_free(self.stream) };
    }
}

impl Port {
    /// MLX on its best device: the GPU, where it has one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when MLX finds none.
    pub fn open() -> Result<Port> {
        static HANDLER: Once = Once::new();
        let _lock = lock();
        // SAFETY: the handler is a function of the right type, and needs no data.
        HANDLER.call_once(|| unsafe { mlx_sys::mlx_set_error_handler(Some(remember), null_mut(), None) });
        // SAFETY: the device is made here, and freed after its last use.
        let (stream, name, memory_bytes, is_gpu) = unsafe {
            let mut device = mlx_sys::mlx_device_new();
            mlx_sys::mlx_get_default_device(&mut device);
            let mut kind = mlx_sys::mlx_device_type__MLX_CPU;
            mlx_sys::mlx_device_get_type(&mut kind, device);
            let (name, memory_bytes) = properties_of(device);
            let stream = mlx_sys::mlx_stream_new_thread_unsafe(device);
            mlx_sys::mlx_device_free(device);
            (stream, name, memory_bytes, kind == mlx_sys::mlx_device_type__MLX_GPU)
        };
        if stream.ctx.is_null() {
            let hint = "MLX needs a Mac with Apple silicon and macOS 14 or newer".into();
            return Err(Error::Unavailable { what: format!("MLX cannot be used: {}", said()), hint });
        }
        Ok(Port { stream, name, is_gpu, memory_bytes, failure: Mutex::new(None) })
    }

    /// The name of the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a GPU. MLX has fewer kernels of its own elsewhere.
    pub fn is_gpu(&self) -> bool {
        self.is_gpu
    }

    /// What went wrong first since it was last asked.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Memory that MLX uses, that of weights included. It tells no number of allocations.
    pub fn memory_use(&self) -> MemoryUse {
        let _lock = lock();
        let (mut live, mut free, mut peak) = (0, 0, 0);
        // SAFETY: each is a place for a number.
        unsafe {
            mlx_sys::mlx_get_active_memory(&mut live);
            mlx_sys::mlx_get_cache_memory(&mut free);
            mlx_sys::mlx_get_peak_memory(&mut peak);
        }
        MemoryUse { live_bytes: live, held_bytes: live + free, peak_held_bytes: peak.max(live + free), allocations: 0 }
    }

    /// Bytes of memory that can still be used, what MLX has free among them.
    pub fn free_bytes(&self) -> u64 {
        self.memory_bytes.saturating_sub(self.memory_use().live_bytes) as u64
    }

    /// Gives free memory back to the operating system.
    pub fn release_memory(&self) {
        let _lock = lock();
        // SAFETY: it takes nothing.
        unsafe { mlx_sys::mlx_clear_cache() };
    }

    /// An array of values from main memory, which are copied.
    pub fn upload(&self, bytes: &[u8], element: Element, shape: &[usize]) -> Array {
        let count: usize = shape.iter().product();
        assert_eq!(bytes.len(), count * element.bytes(), "upload of {shape:?}: this is a bug");
        if bytes.as_ptr().align_offset(element.bytes()) != 0 {
            // Files may place values anywhere; MLX reads them as what they are.
            let mut words = vec![0.0; bytes.len().div_ceil(size_of::<f32>())];
            let aligned = &mut zimage_kernels::bytes::of_mut(&mut words)[..bytes.len()];
            aligned.copy_from_slice(bytes);
            return self.upload(aligned, element, shape);
        }
        let dims = ints(shape);
        self.made("upload", |out, _| {
            // SAFETY: there are as many values as the shape takes, and they are copied before this returns.
            *out = unsafe {
                mlx_sys::mlx_array_new_data(bytes.as_ptr().cast(), dims.as_ptr(), dims.len() as c_int, dtype(element))
            };
            c_int::from(out.ctx.is_null())
        })
    }

    /// Computes an array now.
    pub fn evaluate(&self, array: &Array) {
        let _lock = lock();
        // SAFETY: an array, or none, which is an error.
        let status = unsafe { mlx_sys::mlx_array_eval(array.0) };
        self.note("evaluation", status);
    }

    /// The values of an array; none after something went wrong.
    pub fn download(&self, array: &Array) -> Option<Vec<f32>> {
        let plain = self.contiguous(&self.cast(array, Element::F32));
        self.evaluate(&plain);
        let _lock = lock();
        // SAFETY: it is asked for its length only if it is an array; the values of an array that was computed lie in
        // memory one after the other until it is freed, and no call can change them meanwhile.
        unsafe {
            let data = if plain.0.ctx.is_null() { std::ptr::null() } else { mlx_sys::mlx_array_data_float32(plain.0) };
            let len = if data.is_null() { 0 } else { mlx_sys::mlx_array_size(plain.0) };
            (!data.is_null()).then(|| std::slice::from_raw_parts(data, len).to_vec())
        }
    }

    /// Whether no value is infinite or not a number. True after something went wrong: that is told by itself.
    pub fn all_finite(&self, array: &Array) -> bool {
        let finite = call!(self, mlx_isfinite(array.0));
        let all = call!(self, mlx_all(finite.0, false));
        self.evaluate(&all);
        let _lock = lock();
        let mut answer = true;
        // SAFETY: `answer` is a place for a truth value, which the array is one of, or none, which is an error.
        let status = unsafe { mlx_sys::mlx_array_item_bool(&mut answer, all.0) };
        self.note("item", status);
        answer || status != 0
    }

    /// The array that a call makes, or none if it fails.
    fn made(&self, what: &str, call: impl FnOnce(&mut mlx_array, mlx_stream) -> c_int) -> Array {
        let _lock = lock();
        let mut out = NONE;
        let status = call(&mut out, self.stream);
        self.note(what, status);
        Array(out)
    }

    /// Remembers a failure, if it is the first.
    fn note(&self, what: &str, status: c_int) {
        if status != 0 {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| Error::Work {
                device: "mlx".into(),
                what: format!("{what} failed: {}", said()),
            });
        }
    }
}

/// The operations of MLX. Where two elements meet, the result has the wider one.
impl Port {
    /// The same values in another element.
    pub fn cast(&self, a: &Array, element: Element) -> Array {
        if a.element() == element { a.clone() } else { call!(self, mlx_astype(a.0, dtype(element))) }
    }

    /// The same values in row-major order under another shape.
    pub fn reshape(&self, a: &Array, shape: &[usize]) -> Array {
        call!(self, mlx_reshape(a.0; shape))
    }

    /// The axes in another order.
    pub fn transpose(&self, a: &Array, axes: &[usize]) -> Array {
        call!(self, mlx_transpose_axes(a.0; axes))
    }

    /// The values in row-major order in memory.
    pub fn contiguous(&self, a: &Array) -> Array {
        call!(self, mlx_contiguous(a.0, false))
    }

    /// Copies along the axes of length 1.
    pub fn broadcast(&self, a: &Array, shape: &[usize]) -> Array {
        call!(self, mlx_broadcast_to(a.0; shape))
    }

    /// Of each axis the places from `start` to before `stop`.
    pub fn slice(&self, a: &Array, start: &[usize], stop: &[usize]) -> Array {
        let (start, stop, step) = (ints(start), ints(stop), vec![1; start.len()]);
        let axes = step.len();
        call!(self, mlx_slice(a.0, start.as_ptr(), axes, stop.as_ptr(), axes, step.as_ptr(), axes))
    }

    /// Arrays one after the other along an axis.
    pub fn concatenate(&self, arrays: &[&Array], axis: usize) -> Array {
        let raw: Vec<mlx_array> = arrays.iter().map(|array| array.0).collect();
        self.made("mlx_concatenate_axis", |out, stream| {
            // SAFETY: as in `call`; the list is made of arrays, and freed after its use.
            unsafe {
                let list = mlx_sys::mlx_vector_array_new_data(raw.as_ptr(), raw.len());
                let status = mlx_sys::mlx_concatenate_axis(out, list, axis as c_int, stream);
                mlx_sys::mlx_vector_array_free(list);
                status
            }
        })
    }

    /// `a + b`.
    pub fn add(&self, a: &Array, b: &Array) -> Array {
        call!(self, mlx_add(a.0, b.0))
    }

    /// `a - b`.
    pub fn subtract(&self, a: &Array, b: &Array) -> Array {
        call!(self, mlx_subtract(a.0, b.0))
    }

    /// `a * b`.
    pub fn multiply(&self, a: &Array, b: &Array) -> Array {
        call!(self, mlx_multiply(a.0, b.0))
    }

    /// `1 / (1 + exp(-a))`.
    pub fn sigmoid(&self, a: &Array) -> Array {
        call!(self, mlx_sigmoid(a.0))
    }

    /// The hyperbolic tangent.
    pub fn tanh(&self, a: &Array) -> Array {
        call!(self, mlx_tanh(a.0))
    }

    /// The product of the matrices of the last two axes.
    pub fn matmul(&self, a: &Array, b: &Array) -> Array {
        call!(self, mlx_matmul(a.0, b.0))
    }

    /// `x W^T` with the words, scales and biases of a weight as `mx.quantize` makes them.
    pub fn quantized_matmul(
        &self,
        x: &Array,
        [words, scales, biases]: &[Array; 3],
        group: usize,
        bits: usize,
    ) -> Array {
        let (group, bits, mode) = (number(group), number(bits), c"affine".as_ptr());
        call!(self, mlx_quantized_matmul(x.0, words.0, scales.0, biases.0, true, group, bits, mode))
    }

    /// `x / rms(x) * weight` along the last axis.
    pub fn rms_norm(&self, x: &Array, weight: &Array, eps: f32) -> Array {
        call!(self, mlx_fast_rms_norm(x.0, weight.0, eps))
    }

    /// `(x - mean) / std` along the last axis.
    pub fn layer_norm(&self, x: &Array, eps: f32) -> Array {
        call!(self, mlx_fast_layer_norm(x.0, NONE, NONE, eps))
    }

    /// Attention of queries, keys and values `(1, heads, tokens, head_dim)`.
    pub fn attend(&self, [q, k, v]: [&Array; 3], scale: f32, causal: bool) -> Array {
        let mask = if causal { c"causal" } else { c"" }.as_ptr();
        call!(self, mlx_fast_scaled_dot_product_attention(q.0, k.0, v.0, scale, mask, NONE, NONE, false))
    }

    /// A convolution of `(1, height, width, in)` with `(out, kh, kw, in)`; zeros before and after, rows first.
    pub fn convolve(&self, x: &Array, w: &Array, stride: usize, before: [usize; 2], after: [usize; 2]) -> Array {
        let (by, lo, hi, one) = (ints(&[stride; 2]), ints(&before), ints(&after), [1; 2]);
        let (by, lo, hi, one) = (by.as_ptr(), lo.as_ptr(), hi.as_ptr(), one.as_ptr());
        call!(self, mlx_conv_general(x.0, w.0, by, 2, lo, 2, hi, 2, one, 2, one, 2, 1, false))
    }
}

fn lock() -> MutexGuard<'static, ()> {
    // It guards no value of ours.
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What MLX said last in this thread, without the place in its source.
fn said() -> String {
    SAID.with_borrow(|text| text.rsplit_once(" at /").map_or(text.as_str(), |(text, _)| text).to_owned())
}

extern "C" fn remember(message: *const c_char, _: *mut c_void) {
    // SAFETY: MLX gives a text that ends with a zero.
    let text = unsafe { CStr::from_ptr(message) };
    SAID.set(text.to_string_lossy().into_owned());
}

/// What the system calls a device, and how many bytes of memory programs should use on it.
///
/// # Safety
/// It must be a device, and the lock held.
unsafe fn properties_of(device: mlx_sys::mlx_device) -> (String, usize) {
    let (mut name, mut bytes) = (std::ptr::null(), 0);
    // SAFETY: `info` is made here and freed after the text was copied; the others are places for a number and for a
    // pointer to a text. A key that is missing is an error, and leaves its place as it was.
    unsafe {
        let mut info = mlx_sys::mlx_device_info_new();
        mlx_sys::mlx_device_info_get(&mut info, device);
        mlx_sys::mlx_device_info_get_string(&mut name, info, c"device_name".as_ptr());
        mlx_sys::mlx_device_info_get_size(&mut bytes, info, c"max_recommended_working_set_size".as_ptr());
        if bytes == 0 {
            mlx_sys::mlx_get_memory_limit(&mut bytes);
        }
        let text = if name.is_null() { "unknown".into() } else { CStr::from_ptr(name).to_string_lossy().into_owned() };
        mlx_sys::mlx_device_info_free(info);
        (text, bytes)
    }
}

fn dtype(element: Element) -> mlx_sys::mlx_dtype {
    match element {
        Element::F32 => mlx_sys::mlx_dtype__MLX_FLOAT32,
        Element::F16 => mlx_sys::mlx_dtype__MLX_FLOAT16,
        Element::Bf16 => mlx_sys::mlx_dtype__MLX_BFLOAT16,
        Element::U32 => mlx_sys::mlx_dtype__MLX_UINT32,
    }
}

/// Sizes as MLX counts them. One that is too large becomes negative, which MLX refuses.
fn ints(sizes: &[usize]) -> Vec<c_int> {
    sizes.iter().map(|size| c_int::try_from(*size).unwrap_or(-1)).collect()
}

fn number(value: usize) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int { value: value as c_int, has_value: true }
}

#[cfg(test)]
mod tests {
    use super::{Element, Port};

    #[test]
    fn the_first_failure_is_told_once_and_leaves_no_values() {
        let port = Port::open().expect("MLX has a device");
        let row = |len| port.upload(zimage_kernels::bytes::of(&vec![1.0; len]), Element::F32, &[len]);
        let sum = port.add(&row(2), &row(3));
        let twice = port.add(&sum, &sum);
        assert!(port.download(&twice).is_none() && port.all_finite(&twice));
        let failure = port.take_failure().expect("a failure").to_string();
        assert!(failure.starts_with("mlx: mlx_add failed: ") && failure.contains("broadcast"), "{failure}");
        assert!(port.take_failure().is_none());
        assert_eq!(port.download(&port.add(&row(2), &row(2))), Some(vec![2.0, 2.0]));
        assert!(port.take_failure().is_none());
    }

    #[test]
    fn values_may_lie_anywhere() {
        let port = Port::open().expect("MLX has a device");
        let mut bytes = vec![0];
        bytes.extend([1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
        assert_eq!(port.download(&port.upload(&bytes[1..], Element::F32, &[2])), Some(vec![1.5, -2.0]));
    }
}
