// What all kernels are written in. This text stands in front of every source, and has two meanings: NVRTC compiles it
// for a device, and a C++ compiler for the emulator, whose header stands in front of it then.
//
// Nothing may be included here or by a source: NVRTC comes without headers.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef int i32;

// ---------------------------------------------------------------------------------------------------------------------
// Places and entries

#ifdef __CUDACC_RTC__

// No source uses everything that stands here.
#pragma nv_diag_suppress 177

#define DEVICE static __device__ __forceinline__
// An alignment stands before it: `alignas(16) SHARED float x[4];`.
#define SHARED __shared__
// Shared memory whose size the launch tells; its contents are not specified.
#define DYNAMIC_SHARED(T, name)                                  \
    extern __shared__ __align__(128) u8 dynamic_shared_bytes[]; \
    T* const name = reinterpret_cast<T*>(dynamic_shared_bytes)

#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define GRID_X gridDim.x
#define THREAD threadIdx.x
#define THREADS blockDim.x

// The entries that the host launches: they take one struct. Of a template there is one for each element of activations.
// `name` is a function over the struct, and the entry of the same name takes it wrapped, so that the two differ.
#define KERNEL_BOUNDED(name, Struct, threads)                                                                  \
    struct name##_arguments {                                                                                  \
        Struct value;                                                                                          \
    };                                                                                                         \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ name##_arguments given) \
    {                                                                                                          \
        name(given.value);                                                                                     \
    }
#define KERNELS_BOUNDED(name, Struct, threads)                                                                      \
    extern "C" __global__ void __launch_bounds__(threads) name##_f32(const __grid_constant__ Struct<float> given)   \
    {                                                                                                               \
        name<float>(given);                                                                                         \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(threads) name##_bf16(const __grid_constant__ Struct<bf16> given)   \
    {                                                                                                               \
        name<bf16>(given);                                                                                          \
    }

#else

#define DEVICE static inline
// A block is run by one thread of the CPU, which has a copy of its own.
#define SHARED static thread_local
#define DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(emulator::here->shared)

#define BLOCK_X (emulator::here->block[0])
#define BLOCK_Y (emulator::here->block[1])
#define BLOCK_Z (emulator::here->block[2])
#define GRID_X (emulator::here->grid_x)
#define THREAD (emulator::here->thread)
#define THREADS (emulator::here->threads)

#define EMULATED_ENTRY(entry, Struct, function, bound) \
    extern "C" void entry(const void* given)           \
    {                                                  \
        function(*static_cast<const Struct*>(given));  \
    }                                                  \
    extern "C" u32 entry##_bytes()                     \
    {                                                  \
        return sizeof(Struct);                         \
    }                                                  \
    extern "C" u32 entry##_bound()                     \
    {                                                  \
        return bound;                                  \
    }
#define KERNEL_BOUNDED(name, Struct, threads) EMULATED_ENTRY(name, Struct, name, threads)
#define KERNELS_BOUNDED(name, Struct, threads)                    \
    EMULATED_ENTRY(name##_f32, Struct<float>, name<float>, threads) \
    EMULATED_ENTRY(name##_bf16, Struct<bf16>, name<bf16>, threads)

#endif

#define KERNEL(name, Struct) KERNEL_BOUNDED(name, Struct, 1024)
#define KERNELS(name, Struct) KERNELS_BOUNDED(name, Struct, 1024)

#define LANE (THREAD % 32)
#define WARP (THREAD / 32)

// ---------------------------------------------------------------------------------------------------------------------
// Elements. All are structs around their bits but float, i8 and i32.

struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};
// e4m3: 4 bits of exponent, 3 of fraction, no infinities; 448 is the largest.
struct f8 {
    u8 bits;
};

// The number of an element, as `Element::code` in driver.rs.
template <typename T> constexpr u32 ELEMENT_OF = 99;
template <> constexpr u32 ELEMENT_OF<float> = 0;
template <> constexpr u32 ELEMENT_OF<bf16> = 1;
template <> constexpr u32 ELEMENT_OF<f16> = 2;
template <> constexpr u32 ELEMENT_OF<f8> = 3;
template <> constexpr u32 ELEMENT_OF<i8> = 4;
template <> constexpr u32 ELEMENT_OF<i32> = 5;

DEVICE u32 bits_of(float x)
{
#ifdef __CUDACC_RTC__
    return __float_as_uint(x);
#else
    return emulator::bits_of(x);
#endif
}

DEVICE float float_of(u32 bits)
{
#ifdef __CUDACC_RTC__
    return __uint_as_float(bits);
#else
    return emulator::float_of(bits);
#endif
}

DEVICE bool is_nan(float x)
{
    return (bits_of(x) & 0x7fffffffu) > 0x7f800000u;
}

DEVICE float to_float(float x)
{
    return x;
}
DEVICE float to_float(i8 x)
{
    return (float)x;
}
DEVICE float to_float(i32 x)
{
    return (float)x;
}
DEVICE float to_float(bf16 x)
{
    return float_of((u32)x.bits << 16);
}

DEVICE float to_float(f16 x)
{
#ifdef __CUDACC_RTC__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
#else
    u32 sign = (u32)(x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31u, fraction = x.bits & 0x3ffu;
    if (exponent == 31)
        return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0)  // fraction * 2^-24, which is exact
        return float_of(sign | bits_of((float)fraction * 5.9604644775390625e-8f));
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
#endif
}

DEVICE float to_float(f8 x)
{
    // The bits of a half whose exponent has another bias: 2^8 times smaller. NaN is the one value that does not follow.
    u16 half = (u16)((x.bits & 0x80u) << 8 | (x.bits & 0x7fu) << 7);
    bool nan = (x.bits & 0x7fu) == 0x7fu;
    return nan ? float_of(0x7fc00000u) : 256.0f * to_float(f16{half});
}

DEVICE bf16 to_bf16(float x)
{
#if defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 800
    bf16 value;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(value.bits) : "f"(x));
    return value;
#else
    u32 bits = bits_of(x);
    u32 rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return bf16{(u16)(is_nan(x) ? 0x7fffu : rounded)};
#endif
}

DEVICE f16 to_f16(float x)
{
#ifdef __CUDACC_RTC__
    f16 value;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(value.bits) : "f"(x));
    return value;
#else
    u32 bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return f16{0x7fffu};
    if (magnitude >= 0x477ff000u)  // 65520 and above
        return f16{(u16)(sign | 0x7c00u)};
    if (magnitude < 0x38800000u) {  // below 2^-14: steps of 2^-24, which are those of floats at 0.5
        u32 steps = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
        return f16{(u16)(sign | steps)};
    }
    u32 rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return f16{(u16)(sign | ((rounded >> 13) - (112u << 10)))};
#endif
}

DEVICE f8 to_f8(float x)
{
#if defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 890
    u16 pair;  // the first operand goes into the upper half
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(x));
    return f8{(u8)pair};
#else
    u32 bits = bits_of(x), sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return f8{0x7f};
    if (magnitude >= 0x43e00000u)  // 448 and above
        return f8{(u8)(sign | 0x7eu)};
    if (magnitude < 0x3c800000u) {  // below 2^-6: steps of 2^-9, which are those of floats at 2^14
        u32 steps = bits_of(float_of(magnitude) + 16384.0f) - 0x46800000u;
        return f8{(u8)(sign | steps)};
    }
    u32 rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
    return f8{(u8)(sign | ((rounded >> 20) - (120u << 3)))};
#endif
}

// A float as an element: rounded to the nearest, and to even between two; f8 saturates.
template <typename T> DEVICE T from_float(float x)
{
    if constexpr (ELEMENT_OF<T> == ELEMENT_OF<float>)
        return x;
    else if constexpr (ELEMENT_OF<T> == ELEMENT_OF<bf16>)
        return to_bf16(x);
    else if constexpr (ELEMENT_OF<T> == ELEMENT_OF<f16>)
        return to_f16(x);
    else {
        static_assert(ELEMENT_OF<T> == ELEMENT_OF<f8>, "an element that floats are rounded to");
        return to_f8(x);
    }
}

// Two values in a register, as fragments of tensor cores have them: the first is in the lower half.
DEVICE u32 pack_bf16(float low, float high)
{
#if defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 800
    u32 pair;  // the first operand goes into the upper half
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (u32)to_bf16(high).bits << 16 | to_bf16(low).bits;
#endif
}

DEVICE u32 pack_f16(float low, float high)
{
#if defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 800
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (u32)to_f16(high).bits << 16 | to_f16(low).bits;
#endif
}

// Sixteen bytes of values at a multiple of 16: what a thread reads or writes at once.
template <typename T> struct alignas(16) Pack {
    static constexpr u32 LEN = 16 / sizeof(T);
    T values[LEN];
};

template <typename T> DEVICE Pack<T> load_pack(const T* at)
{
    return *reinterpret_cast<const Pack<T>*>(at);
}

template <typename T> DEVICE void store_pack(T* at, const Pack<T>& pack)
{
    *reinterpret_cast<Pack<T>*>(at) = pack;
}

// A parameter: it came from outside in f32, or an operation made it.
struct Param {
    const void* data;
    u32 element;
    u32 pad;
};

DEVICE float at(const Param& p, u32 i)
{
    switch (p.element) {
    case 0: return static_cast<const float*>(p.data)[i];
    case 1: return to_float(static_cast<const bf16*>(p.data)[i]);
    case 2: return to_float(static_cast<const f16*>(p.data)[i]);
    default: return float_of(0x7fc00000u);
    }
}

// N values that follow each other, read or written at once where they are 16 bytes or less: `at` is a multiple of N
// values from memory's begin, and N a power of two.
template <typename T, u32 N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Several {
    T values[N];
};

template <u32 N, typename T> DEVICE void load_floats(float (&values)[N], const T* at)
{
    Several<T, N> several = *reinterpret_cast<const Several<T, N>*>(at);
#pragma unroll
    for (u32 i = 0; i < N; i++)
        values[i] = to_float(several.values[i]);
}

template <u32 N, typename T> DEVICE void store_floats(T* at, const float (&values)[N])
{
    if constexpr (ELEMENT_OF<T> == ELEMENT_OF<bf16> && N % 2 == 0) {
        Several<u32, N / 2> pairs;
#pragma unroll
        for (u32 i = 0; i < N / 2; i++)
            pairs.values[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
        *reinterpret_cast<Several<u32, N / 2>*>(at) = pairs;
    } else {
        Several<T, N> several;
#pragma unroll
        for (u32 i = 0; i < N; i++)
            several.values[i] = from_float<T>(values[i]);
        *reinterpret_cast<Several<T, N>*>(at) = several;
    }
}

// N values of a parameter from the i-th on, which is a multiple of N.
template <u32 N> DEVICE void load_params(float (&values)[N], const Param& p, u32 i)
{
    switch (p.element) {
    case 0: load_floats(values, static_cast<const float*>(p.data) + i); break;
    case 1: load_floats(values, static_cast<const bf16*>(p.data) + i); break;
    default:
#pragma unroll
        for (u32 j = 0; j < N; j++)
            values[j] = at(p, i + j);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Arithmetic: within 2 units in the last place, but for the fast ones.

DEVICE float exp_(float x)
{
    return expf(x);
}
DEVICE float exp2_(float x)
{
    return exp2f(x);
}
DEVICE float tanh_(float x)
{
    return tanhf(x);
}
DEVICE float sqrt_(float x)
{
    return sqrtf(x);
}
DEVICE float fma_(float a, float b, float c)
{
    return fmaf(a, b, c);
}
DEVICE float abs_(float x)
{
    return fabsf(x);
}
// Of a number and a NaN these give the number.
DEVICE float max_(float a, float b)
{
#ifdef __CUDACC_RTC__
    return fmaxf(a, b);
#else
    return a > b || is_nan(b) ? a : b;
#endif
}
DEVICE float min_(float a, float b)
{
#ifdef __CUDACC_RTC__
    return fminf(a, b);
#else
    return a < b || is_nan(b) ? a : b;
#endif
}
DEVICE u32 max_(u32 a, u32 b)
{
    return a > b ? a : b;
}
DEVICE u32 min_(u32 a, u32 b)
{
    return a < b ? a : b;
}
DEVICE i32 max_(i32 a, i32 b)
{
    return a > b ? a : b;
}
DEVICE i32 min_(i32 a, i32 b)
{
    return a < b ? a : b;
}

DEVICE float rsqrt_(float x)
{
#ifdef __CUDACC_RTC__
    return rsqrtf(x);
#else
    return 1.0f / sqrtf(x);
#endif
}

// 2^x by the special function unit: 2 units in the last place near 0, more beyond; -infinity gives 0.
DEVICE float fast_exp2(float x)
{
#ifdef __CUDACC_RTC__
    float value;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
#else
    return exp2f(x);
#endif
}

// 1 / x by the special function unit, within 1 unit in the last place; 0 for infinity.
DEVICE float fast_reciprocal(float x)
{
#ifdef __CUDACC_RTC__
    float value;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
#else
    return 1.0f / x;
#endif
}

DEVICE u32 atomic_min(u32* place, u32 value)
{
#ifdef __CUDACC_RTC__
    return atomicMin(place, value);
#else
    return emulator::atomic_min(place, value);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Threads together. All 32 lanes of a warp, or all threads of a block, must come to the same call.

DEVICE void sync_threads()
{
#ifdef __CUDACC_RTC__
    __syncthreads();
#else
    emulator::sync_threads();
#endif
}

DEVICE void sync_warp()
{
#ifdef __CUDACC_RTC__
    __syncwarp();
#else
    emulator::sync_warp();
#endif
}

// The value of a lane.
DEVICE u32 shuffle(u32 value, u32 lane)
{
#ifdef __CUDACC_RTC__
    return __shfl_sync(0xffffffffu, value, lane);
#else
    return emulator::shuffle(value, lane % 32);
#endif
}
DEVICE float shuffle(float value, u32 lane)
{
    return float_of(shuffle(bits_of(value), lane));
}

// The value of the lane whose number differs in these bits.
DEVICE u32 shuffle_xor(u32 value, u32 mask)
{
#ifdef __CUDACC_RTC__
    return __shfl_xor_sync(0xffffffffu, value, mask);
#else
    return emulator::shuffle(value, (LANE ^ mask) % 32);
#endif
}
DEVICE float shuffle_xor(float value, u32 mask)
{
    return float_of(shuffle_xor(bits_of(value), mask));
}

// Results are in all lanes, the same bits.
DEVICE float warp_sum(float value)
{
#pragma unroll
    for (u32 mask = 16; mask > 0; mask /= 2)
        value += shuffle_xor(value, mask);
    return value;
}
DEVICE float warp_max(float value)
{
#pragma unroll
    for (u32 mask = 16; mask > 0; mask /= 2)
        value = max_(value, shuffle_xor(value, mask));
    return value;
}

// Results are in all threads, the same bits. The first barrier is for those who still read the last call's values.
DEVICE float block_sum(float value)
{
    SHARED float of_warps[32];
    value = warp_sum(value);
    sync_threads();
    if (LANE == 0)
        of_warps[WARP] = value;
    sync_threads();
    return warp_sum(LANE < THREADS / 32 ? of_warps[LANE] : 0.0f);
}
DEVICE float block_max(float value)
{
    SHARED float of_warps[32];
    value = warp_max(value);
    sync_threads();
    if (LANE == 0)
        of_warps[WARP] = value;
    sync_threads();
    return warp_max(of_warps[LANE < THREADS / 32 ? LANE : 0]);
}
