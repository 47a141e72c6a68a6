// Weights in the element of a product, from whatever their file stores; and values that were quantized, again.

struct Decode {
    Stored from;
    void* out;    // (rows, cols)
    u32 element;  // f32 or bf16
    u32 pad;
};

// Eight values, of which `count` are written. Rows of a multiple of eight values are written sixteen bytes at once.
template <typename T> DEVICE void store_eight(T* out, u64 place, u32 count, const float v[8])
{
    if (count == 8 && place % 8 == 0) {
        for (u32 k = 0; k < 8; k += Pack<T>::LEN) {
            Pack<T> pack;
            for (u32 i = 0; i < Pack<T>::LEN; i++)
                pack.values[i] = from_float<T>(v[k + i]);
            store_pack(out + place + k, pack);
        }
        return;
    }
    for (u32 k = 0; k < count; k++)
        out[place + k] = from_float<T>(v[k]);
}

// A thread has eight values of a row. Floor: the bytes of the file once and those of the result once; for 39 million
// values from 4 bits to bf16 100 MB, 40 us at 2.5 TB/s, beside 540 us that 4096 rows then take to be multiplied at
// 600 Tflop/s. Headers of blocks are read again by each of the 4 or 32 threads that share one, out of the nearest cache.
template <typename Format> DEVICE void decode(const Decode& a)
{
    u32 groups = (a.from.cols + 7) / 8, index = BLOCK_X * THREADS + THREAD;
    u32 row = index / groups, col = index % groups * 8;
    if (row >= a.from.rows)
        return;
    u32 count = min_(a.from.cols - col, 8u);
    float v[8];
    Format::eight(a.from, row, col, count, v);
    u64 place = (u64)row * a.from.cols + col;
    switch (a.element) {
    case ELEMENT_OF<float>: return store_eight(static_cast<float*>(a.out), place, count, v);
    case ELEMENT_OF<bf16>: return store_eight(static_cast<bf16*>(a.out), place, count, v);
    }
}

#define DECODER(name, Format)                     \
    DEVICE void decode_##name(const Decode& a)    \
    {                                             \
        decode<Format>(a);                        \
    }                                             \
    KERNEL_BOUNDED(decode_##name, Decode, 256)

FOR_EVERY_FORMAT(DECODER)
