//! cuBLASLt's own objects: what is multiplied, how matrices lie, and what is asked of an algorithm.
#![allow(unsafe_code, reason = "calls cuBLASLt")]

use super::product::{Columns, Product};
use super::symbols::{LibcublasLt, Status};
use super::texts;
use crate::backend::cuda::driver::{Address, Element};
use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtEpilogue_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t as Wish, cublasLtMatrixLayout_t, cublasLtReductionScheme_t, cudaDataType,
};
use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::ptr;

/// `CUBLAS_OP_T`.
const TURNED: i32 = 1;

/// How a value is called there.
pub fn data_type(element: Element) -> cudaDataType {
    match element {
        Element::F32 => cudaDataType::CUDA_R_32F,
        Element::Bf16 => cudaDataType::CUDA_R_16BF,
        Element::F16 => cudaDataType::CUDA_R_16F,
        Element::F8 => cudaDataType::CUDA_R_8F_E4M3,
        Element::I8 => cudaDataType::CUDA_R_8I,
        Element::I32 => cudaDataType::CUDA_R_32I,
    }
}

/// An error when a call failed; `what` names it.
pub fn check(calls: &LibcublasLt, status: Status, what: &str) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the library's texts are static strings.
    let text = unsafe {
        texts::of_error(status, (calls.cublasLtGetStatusName)(status), (calls.cublasLtGetStatusString)(status))
    };
    Err(format!("{what}: {text}"))
}

/// What is computed.
#[derive(Debug)]
pub struct Operation {
    calls: &'static LibcublasLt,
    raw: cublasLtMatmulDesc_t,
}

impl Operation {
    /// A product, whose bias is told later.
    pub fn new(calls: &'static LibcublasLt, product: &Product) -> Result<Operation, String> {
        // F32 is computed in F32: TF32 has its own name, which is not asked for.
        let (compute, scale) = match product.a.element {
            Element::I8 => (cublasComputeType_t::CUBLAS_COMPUTE_32I, cudaDataType::CUDA_R_32I),
            _ => (cublasComputeType_t::CUBLAS_COMPUTE_32F, cudaDataType::CUDA_R_32F),
        };
        let mut operation = Operation { calls, raw: ptr::null_mut() };
        // SAFETY: writes to a handle of ours.
        let status = unsafe { (calls.cublasLtMatmulDescCreate)(&mut operation.raw, compute, scale) };
        check(calls, status, "cublasLtMatmulDescCreate")?;
        if product.a_is_turned {
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, TURNED)?;
        }
        if let Some(element) = product.bias {
            let epilogue = cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue)?;
            let element = data_type(element) as i32;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, element)?;
        }
        if product.a.element == Element::F8 {
            // Ada and Hopper add products of fp8 up in fewer bits than f32 has, and move the sums to f32 now and then
            // unless they are told not to. Without that a sum of thousands of products loses up to some 2 %; but that
            // the factors have 4 bits costs it 3 to 4 % on average already. So the tensor cores may run at full speed.
            // The scales of the factors stay null, which is 1: ours are in the factor on the product, or are applied to
            // rows later.
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, 1i8)?;
        }
        Ok(operation)
    }

    /// Where the bias is from now on.
    pub fn set_bias(&self, bias: Address) -> Result<(), String> {
        self.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.0)
    }

    /// The handle, which lives as long as this.
    pub fn raw(&self) -> cublasLtMatmulDesc_t {
        self.raw
    }

    fn set<T: Copy>(&self, attribute: Attribute, value: T) -> Result<(), String> {
        let from = ptr::from_ref(&value).cast::<c_void>();
        // SAFETY: reads the value, whose size it checks.
        let status = unsafe { (self.calls.cublasLtMatmulDescSetAttribute)(self.raw, attribute, from, size_of::<T>()) };
        check(self.calls, status, &format!("{attribute:?}"))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made once, destroyed once.
            unsafe { (self.calls.cublasLtMatmulDescDestroy)(self.raw) };
        }
    }
}

/// How a matrix lies.
#[derive(Debug)]
pub struct Layout {
    calls: &'static LibcublasLt,
    raw: cublasLtMatrixLayout_t,
}

impl Layout {
    pub fn new(calls: &'static LibcublasLt, columns: &Columns) -> Result<Layout, String> {
        let Columns { element, rows, cols, leading, .. } = *columns;
        let mut layout = Layout { calls, raw: ptr::null_mut() };
        let (kind, rows, cols) = (data_type(element), rows as u64, cols as u64);
        // SAFETY: writes to a handle of ours.
        let status = unsafe { (calls.cublasLtMatrixLayoutCreate)(&mut layout.raw, kind, rows, cols, leading as i64) };
        check(calls, status, "cublasLtMatrixLayoutCreate")?;
        Ok(layout)
    }

    /// The handle, which lives as long as this.
    pub fn raw(&self) -> cublasLtMatrixLayout_t {
        self.raw
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made once, destroyed once.
            unsafe { (self.calls.cublasLtMatrixLayoutDestroy)(self.raw) };
        }
    }
}

/// What is asked of an algorithm.
#[derive(Debug)]
pub struct Preference {
    calls: &'static LibcublasLt,
    raw: cublasLtMatmulPreference_t,
}

impl Preference {
    pub fn new(calls: &'static LibcublasLt, product: &Product, workspace: usize) -> Result<Preference, String> {
        let mut preference = Preference { calls, raw: ptr::null_mut() };
        // SAFETY: writes to a handle of ours.
        let status = unsafe { (calls.cublasLtMatmulPreferenceCreate)(&mut preference.raw) };
        check(calls, status, "cublasLtMatmulPreferenceCreate")?;
        preference.set(Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace as u64)?;
        // Parts of a sum are added up in f32, not in the 16 bits that results may have.
        let parts = cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(Wish::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, parts)?;
        preference.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, product.a.alignment)?;
        preference.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, product.b.alignment)?;
        preference.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, product.d.alignment)?;
        preference.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, product.d.alignment)?;
        Ok(preference)
    }

    /// The handle, which lives as long as this.
    pub fn raw(&self) -> cublasLtMatmulPreference_t {
        self.raw
    }

    fn set<T: Copy>(&self, wish: Wish, value: T) -> Result<(), String> {
        let from = ptr::from_ref(&value).cast::<c_void>();
        // SAFETY: reads the value, whose size it checks.
        let status = unsafe { (self.calls.cublasLtMatmulPreferenceSetAttribute)(self.raw, wish, from, size_of::<T>()) };
        check(self.calls, status, &format!("{wish:?}"))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made once, destroyed once.
            unsafe { (self.calls.cublasLtMatmulPreferenceDestroy)(self.raw) };
        }
    }
}

/// An algorithm that is proposed: `cublasLtMatmulHeuristicResult_t`, whose status is a number here, since an enum may
/// not hold what it does not know.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Proposal {
    pub algorithm: cublasLtMatmulAlgo_t,
    pub workspace: usize,
    pub status: Status,
    waves: f32,
    reserved: [i32; 4],
}

const _: () = {
    assert!(size_of::<Proposal>() == size_of::<cublasLtMatmulHeuristicResult_t>());
    assert!(offset_of!(Proposal, workspace) == offset_of!(cublasLtMatmulHeuristicResult_t, workspaceSize));
    assert!(offset_of!(Proposal, status) == offset_of!(cublasLtMatmulHeuristicResult_t, state));
};

impl Proposal {
    /// A place for one.
    pub const NONE: Proposal = Proposal {
        algorithm: cublasLtMatmulAlgo_t { data: [0; 8] },
        workspace: 0,
        status: 1,
        waves: 0.0,
        reserved: [0; 4],
    };

    /// Where cuBLASLt writes several.
    pub fn places(proposals: &mut [Proposal]) -> *mut cublasLtMatmulHeuristicResult_t {
        proposals.as_mut_ptr().cast()
    }
}
