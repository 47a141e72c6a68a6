// Tensor cores, and copies that go on beside them: PTX's own instructions, by the layouts of the PTX manual; the
// emulator gives them the same meaning. Stands behind primitives.cuh.
//
// With g = LANE / 4 and t = LANE % 4, d += a b of (16, 16) and (16, 8) has
//   a[0] = rows g,     columns 2t and 2t + 1     a[2] = the same rows, columns 8 further
//   a[1] = rows g + 8, columns 2t and 2t + 1     a[3] = the same rows, columns 8 further
//   b[0] = rows 2t and 2t + 1, column g          b[1] = rows 8 further
//   d[0], d[1] = row g, columns 2t and 2t + 1    d[2], d[3] = row g + 8
// Of two values in a register the first is in the lower half.

// From Ampere on; the host launches no kernel with it below.
DEVICE void mma_bf16_16816(float d[4], const u32 a[4], const u32 b[2])
{
#ifndef __CUDACC_RTC__
    emulator::mma_bf16_16816(d, a, b);
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();
#endif
}

DEVICE void mma_f16_16816(float d[4], const u32 a[4], const u32 b[2])
{
#ifndef __CUDACC_RTC__
    emulator::mma_f16_16816(d, a, b);
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    // Turing multiplies half as many columns at once.
#pragma unroll
    for (u32 half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

// Where something lies within shared memory, in bytes.
DEVICE u32 shared_address(const void* place)
{
#ifdef __CUDACC_RTC__
    return (u32)__cvta_generic_to_shared(place);
#else
    return emulator::shared_address(place);
#endif
}

// Matrices of 8 rows of 16 bytes from shared memory: the lanes from 8 i on give the rows of matrix i, and of each
// matrix a lane gets the two values of 2 bytes in row g from column 2t on; transposed, those in column g from row 2t
// on.
#ifdef __CUDACC_RTC__
#define LDMATRIX_X4(form)                                                                             \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" form ".shared.b16 {%0, %1, %2, %3}, [%4];"           \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                     \
                 : "r"(shared_address(row))                                                           \
                 : "memory")
#define LDMATRIX_X2(form)                                                               \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" form ".shared.b16 {%0, %1}, [%2];"     \
                 : "=r"(r[0]), "=r"(r[1])                                               \
                 : "r"(shared_address(row))                                             \
                 : "memory")
#endif

DEVICE void ldmatrix_x4(u32 r[4], const void* row)
{
#ifdef __CUDACC_RTC__
    LDMATRIX_X4("");
#else
    emulator::ldmatrix<4, false>(r, row);
#endif
}
DEVICE void ldmatrix_x4_trans(u32 r[4], const void* row)
{
#ifdef __CUDACC_RTC__
    LDMATRIX_X4(".trans");
#else
    emulator::ldmatrix<4, true>(r, row);
#endif
}
// Only the rows of the first 16 lanes count; Turing wants those of the others to be within shared memory, too.
DEVICE void ldmatrix_x2(u32 r[2], const void* row)
{
#ifdef __CUDACC_RTC__
    LDMATRIX_X2("");
#else
    emulator::ldmatrix<2, false>(r, row);
#endif
}
DEVICE void ldmatrix_x2_trans(u32 r[2], const void* row)
{
#ifdef __CUDACC_RTC__
    LDMATRIX_X2(".trans");
#else
    emulator::ldmatrix<2, true>(r, row);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Copies of 16 bytes into shared memory that arrive later. Each thread waits for its own; a barrier makes them visible
// to others. Turing has none: there they arrive at once.

// Zeros where `valid` is false; `global` is not read then, but must be an address of 16 bytes all the same. NEAR copies
// through the L1 cache: what this multiprocessor reads again soon.
template <bool NEAR = false> DEVICE void copy_async_16_or_zero(void* shared, const void* global, bool valid)
{
#ifndef __CUDACC_RTC__
    emulator::copy_async(shared, global, valid);
#elif __CUDA_ARCH__ >= 800
    const u32 to = shared_address(shared), bytes = valid ? 16 : 0;
    const u64 from = __cvta_generic_to_global(global);
    if constexpr (NEAR)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#else
    Pack<u32> zeros = {{0, 0, 0, 0}};
    store_pack(static_cast<u32*>(shared), valid ? load_pack(static_cast<const u32*>(global)) : zeros);
#endif
}

DEVICE void copy_async_16(void* shared, const void* global)
{
    copy_async_16_or_zero(shared, global, true);
}

// Ends a group of copies.
DEVICE void copy_async_commit()
{
#ifndef __CUDACC_RTC__
    emulator::copy_async_commit();
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all but the last N groups are there.
template <u32 N> DEVICE void copy_async_wait()
{
#ifndef __CUDACC_RTC__
    emulator::copy_async_wait(N);
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Asks for the line of this address to be in the L2 cache soon.
DEVICE void prefetch_l2(const void* global)
{
#ifdef __CUDACC_RTC__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(global)));
#else
    (void)global;
#endif
}
