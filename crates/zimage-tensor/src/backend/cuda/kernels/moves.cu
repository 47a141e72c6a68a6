// What only moves values. Floor: the values in and out.

template <typename T> struct Repeat {
    T* out;
    const T* token;
    u32 cols;
    u32 len;
};

// out (len / cols, cols): the same row again and again. A few rows that fill a sequence up.
template <typename T> DEVICE void repeat(const Repeat<T>& a)
{
    u32 i = BLOCK_X * THREADS + THREAD;
    if (i < a.len)
        a.out[i] = a.token[i % a.cols];
}
KERNELS_BOUNDED(repeat, Repeat, 256)

template <typename T> struct Patches {
    T* out;
    const T* x;
    u32 channels;
    u32 height;
    u32 width;
};

// The place in the latents (channels, height, width) of the i-th value of their patches.
template <typename T> DEVICE u32 place_of(const Patches<T>& a, u32 i)
{
    u32 channel = i % a.channels, corner = i / a.channels % 4, patch = i / (4 * a.channels);
    u32 y = patch / (a.width / 2) * 2 + corner / 2, x = patch % (a.width / 2) * 2 + corner % 2;
    return (channel * a.height + y) * a.width + x;
}

// Latents have 16 channels and at most 256 x 256 places: 2 MB, so caches gather what is not in order.
template <typename T> DEVICE void patchify(const Patches<T>& a)
{
    u32 i = BLOCK_X * THREADS + THREAD;
    if (i < a.channels * a.height * a.width)
        a.out[i] = a.x[place_of(a, i)];
}
KERNELS_BOUNDED(patchify, Patches, 256)

template <typename T> DEVICE void unpatchify(const Patches<T>& a)
{
    u32 i = BLOCK_X * THREADS + THREAD;
    if (i < a.channels * a.height * a.width)
        a.out[place_of(a, i)] = a.x[i];
}
KERNELS_BOUNDED(unpatchify, Patches, 256)

template <typename T> struct Transpose {
    T* out;
    const T* x;
    u32 rows;
    u32 cols;
};

// out[c][r] = x[r][c], a block for each 32 x 32 values. Warps read rows and write rows, in whole sectors of memory; in
// between the values lie in shared memory, where a row is one longer so that a column meets every bank once.
template <typename T> DEVICE void transpose(const Transpose<T>& a)
{
    SHARED T tile[32][33];
    u32 across = (a.cols + 31) / 32;
    u32 row = BLOCK_X / across * 32, col = BLOCK_X % across * 32;
    for (u32 r = WARP; r < 32; r += THREADS / 32)
        if (row + r < a.rows && col + LANE < a.cols)
            tile[r][LANE] = a.x[(u64)(row + r) * a.cols + col + LANE];
    sync_threads();
    for (u32 c = WARP; c < 32; c += THREADS / 32)
        if (col + c < a.cols && row + LANE < a.rows)
            a.out[(u64)(col + c) * a.rows + row + LANE] = tile[LANE][c];
}
KERNELS_BOUNDED(transpose, Transpose, 256)

template <typename T> struct FirstNonFinite {
    u32* first;
    const T* x;
    u32 len;
};

DEVICE bool is_finite(float x)
{
    return (bits_of(x) & 0x7f800000u) != 0x7f800000u;
}

// The least place of a value that is infinite or not a number; `first` begins as the largest u32. 16 bytes a thread.
template <typename T> DEVICE void first_non_finite(const FirstNonFinite<T>& a)
{
    constexpr u32 LEN = Pack<T>::LEN;
    u32 i = (BLOCK_X * THREADS + THREAD) * LEN;
    if (i >= a.len)
        return;
    float values[LEN];
    if (i + LEN <= a.len)
        load_floats(values, a.x + i);
    else
        for (u32 j = 0; j < LEN; j++)
            values[j] = i + j < a.len ? to_float(a.x[i + j]) : 0.0f;
    u32 found = LEN;
#pragma unroll
    for (u32 j = LEN; j > 0; j--)
        found = is_finite(values[j - 1]) ? found : j - 1;
    if (found < LEN)
        atomic_min(a.first, i + found);
}
KERNELS_BOUNDED(first_non_finite, FirstNonFinite, 256)
