//! A bias in 16 bits, which cuBLASLt asks for where the result is in 16 bits or the factors are in 8.

/// The source's name.
pub const SOURCE: &str = "narrow";

/// The kernel for each element.
pub const BF16: &str = "narrow_bf16";
/// See [`BF16`].
pub const F16: &str = "narrow_f16";

/// A value for each thread, rounded to nearest even. It moves a few kilobytes, so nothing about it can be slow but its
/// launch. Turing has no conversion to bf16, so bits are counted.
pub const TEXT: &str = r#"
struct Narrow { unsigned short* out; const float* x; unsigned len; };

extern "C" __global__ void narrow_bf16(Narrow a) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.len) return;
    unsigned bits = __float_as_uint(a.x[i]);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    a.out[i] = nan ? 0x7fff : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

extern "C" __global__ void narrow_f16(Narrow a) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.len) return;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(a.out[i]) : "f"(a.x[i]));
}
"#;
