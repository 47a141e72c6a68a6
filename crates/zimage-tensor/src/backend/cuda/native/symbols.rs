//! What is called of CUDA's libraries.
//!
//! Types and declarations are cudarc's, which are made from NVIDIA's headers; each of ours is held against its at
//! compile time. Three things are different from calling cudarc's own functions. A symbol that an old library lacks is
//! an error, where theirs panic at the first call. Libraries are looked for under all names and in all folders of
//! `libraries.rs`. And a status is a number: theirs is an enum, and a driver that is newer than the enum would return
//! values that it does not have.
#![allow(unsafe_code, reason = "CUDA's libraries are C")]

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
    cublasLtMatrixLayout_t, cudaDataType, cudaStream_t,
};
use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUfunction_attribute, CUgraph,
    CUgraphExec, CUmodule, CUstream, CUstreamCaptureMode,
};
use cudarc::nvrtc::sys::nvrtcProgram;
use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

/// What CUDA's functions return; 0 is success in all three libraries.
pub type Status = c_uint;

/// Declares the functions of a library: those that return a status, and those whose declaration is in full because it
/// differs from the header's where the header has an enum.
macro_rules! symbols {
    (
        $(#[$doc:meta])* $table:ident: $($header:ident)::+, $status:ident;
        $(fn $name:ident($($kind:ty),* $(,)?);)*
        by number: $(fn $plain:ident($($taken:ty),*) -> $given:ty;)*
    ) => {
        $(#[$doc])*
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        #[derive(Debug)]
        pub struct $table {
            $(pub $name: unsafe extern "C" fn($($kind),*) -> Status,)*
            $(pub $plain: unsafe extern "C" fn($($taken),*) -> $given,)*
        }

        impl $table {
            /// Looks all of them up; the name of one that is not there is the error.
            pub fn find(library: &Library) -> Result<$table, &'static str> {
                Ok($table {
                    $($name: symbol(library, stringify!($name))?,)*
                    $($plain: symbol(library, stringify!($plain))?,)*
                })
            }
        }

        const _: () = {
            use $($header)::+ as header;
            $(let _: unsafe fn($($kind),*) -> header::$status = header::$name;)*
        };
    };
}

/// The address of a function. `T` must be its type.
fn symbol<T: Copy>(library: &Library, name: &'static str) -> Result<T, &'static str> {
    // SAFETY: `symbols!` alone calls this, with types that are checked against the headers or stand beside this line.
    unsafe { library.get::<T>(name) }.map(|symbol| *symbol).map_err(|_| name)
}

symbols! {
    /// The driver.
    Libcuda: cudarc::driver::sys, CUresult;
    fn cuInit(c_uint);
    fn cuDriverGetVersion(*mut c_int);
    fn cuDeviceGetCount(*mut c_int);
    fn cuDeviceGet(*mut CUdevice, c_int);
    fn cuDeviceGetName(*mut c_char, c_int, CUdevice);
    fn cuDeviceGetAttribute(*mut c_int, CUdevice_attribute, CUdevice);
    fn cuDeviceTotalMem_v2(*mut usize, CUdevice);
    fn cuDevicePrimaryCtxRetain(*mut CUcontext, CUdevice);
    fn cuDevicePrimaryCtxRelease_v2(CUdevice);
    fn cuCtxSetCurrent(CUcontext);
    fn cuMemGetInfo_v2(*mut usize, *mut usize);
    fn cuMemAlloc_v2(*mut CUdeviceptr, usize);
    fn cuMemFree_v2(CUdeviceptr);
    fn cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    fn cuMemFreeHost(*mut c_void);
    fn cuMemcpyHtoDAsync_v2(CUdeviceptr, *const c_void, usize, CUstream);
    fn cuMemcpyDtoHAsync_v2(*mut c_void, CUdeviceptr, usize, CUstream);
    fn cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, usize, CUstream);
    fn cuMemsetD32Async(CUdeviceptr, c_uint, usize, CUstream);
    fn cuStreamCreate(*mut CUstream, c_uint);
    fn cuStreamSynchronize(CUstream);
    fn cuStreamWaitEvent(CUstream, CUevent, c_uint);
    fn cuStreamDestroy_v2(CUstream);
    fn cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode);
    fn cuStreamEndCapture(CUstream, *mut CUgraph);
    fn cuGraphInstantiateWithFlags(*mut CUgraphExec, CUgraph, c_ulonglong);
    fn cuGraphDestroy(CUgraph);
    fn cuGraphLaunch(CUgraphExec, CUstream);
    fn cuGraphExecDestroy(CUgraphExec);
    fn cuEventCreate(*mut CUevent, c_uint);
    fn cuEventRecord(CUevent, CUstream);
    fn cuEventSynchronize(CUevent);
    fn cuEventElapsedTime(*mut f32, CUevent, CUevent);
    fn cuEventDestroy_v2(CUevent);
    fn cuModuleLoadData(*mut CUmodule, *const c_void);
    fn cuModuleGetFunction(*mut CUfunction, CUmodule, *const c_char);
    fn cuModuleUnload(CUmodule);
    fn cuFuncSetAttribute(CUfunction, CUfunction_attribute, c_int);
    fn cuLaunchKernel(
        CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void
    );
    by number:
    fn cuGetErrorName(Status, *mut *const c_char) -> Status;
    fn cuGetErrorString(Status, *mut *const c_char) -> Status;
}

symbols! {
    /// The compiler of kernels.
    Libnvrtc: cudarc::nvrtc::sys, nvrtcResult;
    fn nvrtcVersion(*mut c_int, *mut c_int);
    fn nvrtcGetNumSupportedArchs(*mut c_int);
    fn nvrtcGetSupportedArchs(*mut c_int);
    fn nvrtcCreateProgram(
        *mut nvrtcProgram, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
    );
    fn nvrtcCompileProgram(nvrtcProgram, c_int, *const *const c_char);
    fn nvrtcGetProgramLogSize(nvrtcProgram, *mut usize);
    fn nvrtcGetProgramLog(nvrtcProgram, *mut c_char);
    fn nvrtcGetCUBINSize(nvrtcProgram, *mut usize);
    fn nvrtcGetCUBIN(nvrtcProgram, *mut c_char);
    fn nvrtcGetPTXSize(nvrtcProgram, *mut usize);
    fn nvrtcGetPTX(nvrtcProgram, *mut c_char);
    fn nvrtcDestroyProgram(*mut nvrtcProgram);
    by number:
    fn nvrtcGetErrorString(Status) -> *const c_char;
}

symbols! {
    /// Products of matrices.
    LibcublasLt: cudarc::cublaslt::sys, cublasStatus_t;
    fn cublasLtCreate(*mut cublasLtHandle_t);
    fn cublasLtDestroy(cublasLtHandle_t);
    fn cublasLtMatmulDescCreate(*mut cublasLtMatmulDesc_t, cublasComputeType_t, cudaDataType);
    fn cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, *const c_void, usize);
    fn cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t);
    fn cublasLtMatrixLayoutCreate(*mut cublasLtMatrixLayout_t, cudaDataType, u64, u64, i64);
    fn cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t);
    fn cublasLtMatmulPreferenceCreate(*mut cublasLtMatmulPreference_t);
    fn cublasLtMatmulPreferenceSetAttribute(
        cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, *const c_void, usize
    );
    fn cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t);
    fn cublasLtMatmulAlgoGetHeuristic(
        cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
        cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, c_int, *mut cublasLtMatmulHeuristicResult_t, *mut c_int
    );
    fn cublasLtMatmulAlgoCheck(
        cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
        cublasLtMatrixLayout_t, *const cublasLtMatmulAlgo_t, *mut cublasLtMatmulHeuristicResult_t
    );
    fn cublasLtMatmul(
        cublasLtHandle_t, cublasLtMatmulDesc_t, *const c_void, *const c_void, cublasLtMatrixLayout_t, *const c_void,
        cublasLtMatrixLayout_t, *const c_void, *const c_void, cublasLtMatrixLayout_t, *mut c_void,
        cublasLtMatrixLayout_t, *const cublasLtMatmulAlgo_t, *mut c_void, usize, cudaStream_t
    );
    by number:
    fn cublasLtGetVersion() -> usize;
    fn cublasLtGetStatusName(Status) -> *const c_char;
    fn cublasLtGetStatusString(Status) -> *const c_char;
}
