// Products of warpgroups, which only Hopper has (sm_90a): PTX's own instructions; the emulator gives them the meaning
// that the PTX manual does. Stands behind tensor_cores.cuh, in front of the sources that are for Hopper.
//
// A warpgroup is 128 threads, four warps from a multiple of four on. With g = LANE / 4 and t = LANE % 4, in
// d += a b of (64, 16) and (16, 128) warp w of the warpgroup has
//   d[4 j], d[4 j + 1] = row 16 w + g, columns 8 j + 2t and 8 j + 2t + 1     d[4 j + 2], d[4 j + 3] = 8 rows further
// and of `a`, where that is in registers, rows from 16 w on as tensor_cores.cuh has them.
//
// Products go on beside the threads: from the product until it is waited for nothing may touch its registers, nor write
// to the shared memory that it reads. Products that add to the same sums do so in their order.

#if defined(__CUDACC_RTC__) && defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_WARPGROUPS
#endif

// A factor in shared memory: where it begins, the bytes from a group of rows or columns to the next (see below), and
// how chunks of 16 bytes are exchanged: with 1, chunk c of the 8 in each 128 bytes lies at c ^ r, where r is the number
// of the 128 bytes in their 1024, which begin at multiples of 1024.
//
// Rows of 64 values along the sums (K-major: of `a` and of the transposed b): `stride` is from 8 rows to the next 8,
// and `leading` is not used. Rows of 64 values across (MN-major): `stride` is from 8 rows to the next 8, which are
// further values along the sums, and `leading` from 64 columns to the next 64.
DEVICE u64 factor_at(const void* place, u32 leading, u32 stride)
{
    const u64 start = (shared_address(place) & 0x3ffff) >> 4;
    return start | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32 | (u64)1 << 62;
}

// The same, so many bytes further.
DEVICE u64 further(u64 factor, u32 bytes)
{
    return factor + (bytes >> 4);
}

// Copies into shared memory that this thread has waited for become visible to products, once a barrier is passed.
DEVICE void fence_copies()
{
#ifndef __CUDACC_RTC__
    emulator::fence_copies();
#elif defined(HAS_WARPGROUPS)
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// The compiler knows nothing of products that are not done: it moves no use of these values over this point.
template <u32 N> DEVICE void hold(float (&values)[N])
{
#ifdef __CUDACC_RTC__
#pragma unroll
    for (u32 i = 0; i < N; i++)
        asm volatile("" : "+f"(values[i])::"memory");
#endif
}

// All that a value takes, which is never negative, is computed before what follows. To the compiler products have
// nothing to do with what is computed beside them, and it would wait for them first, as SASS shows; but it moves no
// wait over a branch, which this value decides, though nobody ever takes it.
DEVICE void compute_before(float value)
{
#ifdef __CUDACC_RTC__
    if (value < 0.0f)
        asm volatile("bar.warp.sync 0xffffffff;" ::: "memory");
#endif
}

// Stands between what threads do with registers and the products that take them.
template <u32 N> DEVICE void fence_sums(float (&sums)[N])
{
    hold(sums);
#ifndef __CUDACC_RTC__
    emulator::fence_sums();
#elif defined(HAS_WARPGROUPS)
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// Ends a group of products.
DEVICE void commit_products()
{
#ifndef __CUDACC_RTC__
    emulator::commit_products();
#elif defined(HAS_WARPGROUPS)
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Waits until all but the last PENDING groups are done. `sums` are of one that is.
template <u32 PENDING, u32 N> DEVICE void wait_for_products(float (&sums)[N])
{
#ifndef __CUDACC_RTC__
    emulator::wait_for_products(PENDING);
#elif defined(HAS_WARPGROUPS)
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
#endif
    hold(sums);
}

#ifdef HAS_WARPGROUPS
#define SUMS_8(d, i)                                                                                                 \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),      \
        "+f"(d[i + 7])
#define SUMS_64(d)                                                                                                   \
    SUMS_8(d, 0), SUMS_8(d, 8), SUMS_8(d, 16), SUMS_8(d, 24), SUMS_8(d, 32), SUMS_8(d, 40), SUMS_8(d, 48), SUMS_8(d, 56)
#define NAMES_64                                                                                                     \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, " \
    "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#endif

// d (64, 128) = a b, plus d where `adds` says so. Both are in shared memory, `a` in rows along the sums and b
// transposed, in such rows too.
DEVICE void product_64x128(float (&d)[64], u64 a, u64 b, bool adds)
{
#ifndef __CUDACC_RTC__
    emulator::product_64x128(d, nullptr, a, b, false, adds);
#elif defined(HAS_WARPGROUPS)
    asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " NAMES_64 ", %64, %65, adds, 1, 1, 0, 0;\n}"
        : SUMS_64(d)
        : "l"(a), "l"(b), "r"((u32)adds));
#else
    __trap();
#endif
}

// d (64, 128) += a b, with `a` in registers and b in rows across the sums.
DEVICE void product_64x128(float (&d)[64], const u32* a, u64 b)
{
#ifndef __CUDACC_RTC__
    emulator::product_64x128(d, a, 0, b, true, true);
#elif defined(HAS_WARPGROUPS)
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " NAMES_64
        ", {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
        : SUMS_64(d)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
    __trap();
#endif
}
