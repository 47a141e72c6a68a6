// Kernels that use each primitive once, so that tests find out what it means here, and whether it compiles everywhere.

struct Exchange {
    u32* out;
    const u32* x;
};

// out: values of the lanes in reverse, then those whose number differs in bit 2.
DEVICE void exchange(const Exchange& a)
{
    u32 value = a.x[THREAD];
    a.out[THREAD] = shuffle(value, 31 - LANE);
    a.out[THREADS + THREAD] = shuffle_xor(value, 4);
    sync_warp();
}
KERNEL(exchange, Exchange)

struct Reduce {
    float* sums;
    float* largest;
    u32* least;
    const float* x;
};

// For each thread: the sum and the largest value of its block, twice; and the least bits of all blocks.
DEVICE void reduce(const Reduce& a)
{
    u32 i = BLOCK_X * THREADS + THREAD;
    a.sums[i] = block_sum(a.x[i]) + block_sum(a.x[i] + 1.0f);
    a.largest[i] = block_max(a.x[i]) + block_max(a.x[i] - 1.0f);
    atomic_min(a.least, bits_of(abs_(a.x[i])));
}
KERNEL_BOUNDED(reduce, Reduce, 256)

struct Multiply {
    float* out;
    const u16* x;
    const u16* w;
    u32 half;
    u32 pairs;
};

// out (16, 8) = x (16, 16) w by one warp, with w stored as (8, 16), or as (16, 8) when `pairs` says to load pairs of
// matrices transposed. `half` multiplies f16.
DEVICE void multiply(const Multiply& a)
{
    DYNAMIC_SHARED(u16, shared);
    u16* w = shared + 16 * 16;
    copy_async_16(shared + 8 * THREAD, a.x + 8 * THREAD);
    copy_async_commit();
    copy_async_16_or_zero<true>(w + 8 * (THREAD % 16), a.w + 8 * (THREAD % 16), true);
    copy_async_commit();
    copy_async_wait<1>();
    sync_threads();
    u32 x_rows[4], w_rows[2];
    ldmatrix_x4(x_rows, shared + LANE % 16 * 16 + LANE / 16 * 8);
    copy_async_wait<0>();
    sync_threads();
    if (a.pairs)
        ldmatrix_x2_trans(w_rows, w + LANE % 16 * 8);
    else
        ldmatrix_x2(w_rows, w + LANE % 8 * 16 + LANE / 8 % 2 * 8);
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (a.half)
        mma_f16_16816(sums, x_rows, w_rows);
    else
        mma_bf16_16816(sums, x_rows, w_rows);
    u32 row = LANE / 4, col = LANE % 4 * 2;
    for (u32 i = 0; i < 4; i++)
        a.out[(row + i / 2 * 8) * 8 + col + i % 2] = sums[i];
}
KERNEL(multiply, Multiply)

struct Transpose {
    u32* out;
    const u16* x;
};

// The four matrices (8, 8) that lie in x one after the other, transposed, as the registers of all lanes.
DEVICE void transpose_four(const Transpose& a)
{
    alignas(16) SHARED u16 matrices[4 * 64];
    for (u32 i = THREAD; i < 4 * 64; i += THREADS)
        matrices[i] = a.x[i];
    sync_threads();
    u32 found[4];
    ldmatrix_x4_trans(found, matrices + 8 * LANE);
    for (u32 i = 0; i < 4; i++)
        a.out[4 * LANE + i] = found[i];
}
KERNEL(transpose_four, Transpose)

struct MultiplyTogether {
    float* out;
    const u32* x;      // (64, 16), in pairs
    const u32* image;  // of shared memory
    u32 bytes;
    u32 a[2];          // descriptions of factors without their begin, the lower half first; `a` begins with the image
    u32 b[2];
    u32 b_at;
    u32 across;
    u32 left_out;      // what a kernel must not: 1 and 2 the fences, 3 the wait; by one warp 4 the wait, 5 the product
};

// out (64, 128) = twice the product of two factors in shared memory by a warpgroup; or 1 + x b, where b is `across`.
DEVICE void multiply_together(const MultiplyTogether& a)
{
    DYNAMIC_SHARED(u8, bytes);
    u8* const image = bytes + (1024 - shared_address(bytes) % 1024) % 1024;
    for (u32 i = 16 * THREAD; i < a.bytes; i += 16 * THREADS)
        copy_async_16(image + i, a.image + i / 4);
    copy_async_commit();
    copy_async_wait<0>();
    if (a.left_out != 1)
        fence_copies();
    sync_threads();
    auto begin = [](const u8* place) { return (u64)((shared_address(place) & 0x3ffff) >> 4); };
    const u64 a_at = begin(image) | a.a[0] | (u64)a.a[1] << 32;
    const u64 b_at = begin(image + a.b_at) | a.b[0] | (u64)a.b[1] << 32;
    const bool is_apart = WARP == 3;
    u32 x[4];
    float sums[64];
    const u32 row = WARP * 16 + LANE / 4, pair = LANE % 4;
    for (u32 i = 0; i < 4; i++)
        x[i] = a.x[(row + i % 2 * 8) * 8 + pair + i / 2 * 4];
    for (u32 i = 0; i < 64; i++)
        sums[i] = 1.0f;
    if (a.left_out != 2)
        fence_sums(sums);
    if (a.across) {
        product_64x128(sums, x, b_at);
    } else {
        product_64x128(sums, a_at, b_at, false);
        product_64x128(sums, a_at, b_at, !(a.left_out == 5 && is_apart));
    }
    commit_products();
    if (a.left_out != 3 && !(a.left_out == 4 && is_apart))
        wait_for_products<0>(sums);
    for (u32 i = 0; i < 64; i++)
        a.out[(row + i % 4 / 2 * 8) * 128 + i / 4 * 8 + pair * 2 + i % 2] = sums[i];
}
KERNEL_BOUNDED(multiply_together, MultiplyTogether, 128)

struct Late {
    float* out;
    const float* x;
    u32 waits;
};

// Zeros instead of what is not valid; and what is read before it has arrived.
DEVICE void late(const Late& a)
{
    DYNAMIC_SHARED(float, shared);
    copy_async_16_or_zero(shared + 4 * THREAD, a.x + 4 * THREAD, THREAD % 2 == 0);
    copy_async_commit();
    if (a.waits)
        copy_async_wait<0>();
    sync_threads();
    for (u32 i = 0; i < 4; i++)
        a.out[4 * THREAD + i] = shared[4 * THREAD + i];
}
KERNEL(late, Late)

struct Round {
    float* out;
    const float* x;
    u32* pairs;
    u32 element;
    u32 count;
};

// Each value, rounded to an element.
DEVICE void round_to(const Round& a)
{
    u32 i = BLOCK_X * THREADS + THREAD;
    if (i >= a.count)
        return;
    float x = a.x[i];
    switch (a.element) {
    case 1: a.out[i] = to_float(from_float<bf16>(x)); break;
    case 2: a.out[i] = to_float(from_float<f16>(x)); break;
    case 3: a.out[i] = to_float(from_float<f8>(x)); break;
    default: a.out[i] = from_float<float>(x);
    }
    a.pairs[2 * i] = pack_bf16(x, -1.0f);
    a.pairs[2 * i + 1] = pack_f16(x, -1.0f);
}
KERNEL(round_to, Round)

struct Functions {
    float* out;
    const float* x;
};

// Nine functions of each value.
DEVICE void functions(const Functions& a)
{
    float x = a.x[THREAD];
    float values[9] = {exp_(x), exp2_(x), tanh_(x), rsqrt_(x), sqrt_(x), fma_(x, x, 1.0f), fast_exp2(x),
                       max_(x, 1.0f), min_(x, 1.0f)};
    for (u32 i = 0; i < 9; i++)
        a.out[9 * THREAD + i] = values[i];
}
KERNEL(functions, Functions)

template <typename T> struct Widen {
    float* out;
    const T* x;
    Param add;
};

// x + add, by packs of 16 bytes.
template <typename T> DEVICE void widen(const Widen<T>& a)
{
    u32 i = THREAD * Pack<T>::LEN;
    Pack<T> pack = load_pack(a.x + i);
    for (u32 j = 0; j < Pack<T>::LEN; j++)
        a.out[i + j] = to_float(pack.values[j]) + at(a.add, i + j);
}
KERNELS(widen, Widen)

struct Mistake {
    float* out;
    u32 kind;
};

// What a device would answer by hanging, by nonsense, or not at all.
DEVICE void mistake(const Mistake& a)
{
    DYNAMIC_SHARED(float, shared);
    if (a.kind == 0 && THREAD == 40)
        return;
    if (a.kind == 1 && THREAD % 2 == 0)
        sync_warp();
    if (a.kind == 2)
        a.out[THREADS + THREAD] = 1.0f;
    if (a.kind == 3)
        shared[THREADS + THREAD] = 1.0f;
    sync_threads();
    a.out[THREAD] = 1.0f;
}
KERNEL(mistake, Mistake)
