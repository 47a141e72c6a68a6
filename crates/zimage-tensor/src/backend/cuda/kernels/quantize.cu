// Rows with a scale of their own: in 8 bits for products of bytes, and in halves for tensor cores that have no bf16. The
// rows are activations, or weights in whatever their file stores.

struct Quantize {
    Stored from;
    void* out;      // (rows_out, stride); zeros where there is no value
    float* scales;  // (rows_out): what a value of the row is multiplied with to be what it was
    u32 element;    // f16, f8 or i8
    u32 stride;     // a multiple of 16
    u32 keeps;      // whether the rows have a scale already, and values that the element has
    u32 pad;
};

// The factor for a row, and its inverse. A row with a value that is infinite or not a number gets a scale that is not a
// number, so that the defect reaches the result.
DEVICE void scales_of(u32 element, float largest, float& scale, float& inverse)
{
    if (bits_of(largest) >= 0x7f800000u) {
        scale = inverse = float_of(0x7fc00000u);
    } else if (element == ELEMENT_OF<f16>) {
        // A power of two changes no digit. The largest value comes to lie between 2^14 and 2^15, half of what a half can
        // hold; values are lost below 2^-39 of it. Rows below 2^-100 stay smaller, so that both factors are normal.
        u32 exponent = max_(bits_of(largest) >> 23, 27u);
        inverse = float_of((268 - exponent) << 23);
        scale = float_of((exponent - 14) << 23);
    } else {
        float limit = element == ELEMENT_OF<i8> ? 127.0f : 448.0f;
        // Below this, the inverse might overflow: such values count as zeros.
        bool zero = largest < 1e-30f;
        scale = zero ? 0.0f : largest / limit;
        inverse = zero ? 0.0f : limit / largest;
    }
}

// Rounded to the nearest, ties to even: adding 1.5 * 2^23 leaves the integer in the lowest bits.
DEVICE u8 rounded(float x)
{
    return (u8)bits_of(plus(x, 12582912.0f));
}

DEVICE void store_row(const Quantize& a, u64 place, const float v[8], float inverse)
{
    if (a.element == ELEMENT_OF<f16>) {
        Pack<f16> pack;
        for (u32 k = 0; k < 8; k++)
            pack.values[k] = from_float<f16>(times(v[k], inverse));
        return store_pack(static_cast<f16*>(a.out) + place, pack);
    }
    u64 word = 0;
    for (u32 k = 0; k < 8; k++) {
        float x = times(v[k], inverse);
        u8 byte = a.element == ELEMENT_OF<i8> ? rounded(x) : from_float<f8>(x).bits;
        word |= (u64)byte << (8 * k);
    }
    *reinterpret_cast<u64*>(static_cast<u8*>(a.out) + place) = word;
}

// A block has one row, and passes over it twice: for its largest magnitude, then for its values. The second time it comes
// out of the nearest cache, since a row is at most 40 kB. Floor: the row once, and half or a quarter of that written; of
// 4096 rows of 10240 values 126 MB, 50 us at 2.5 TB/s, beside 290 us for their product at 1200 Tflop/s.
template <typename Format> DEVICE void quantize(const Quantize& a)
{
    u32 row = BLOCK_X, cols = a.from.cols;
    bool present = row < a.from.rows;
    float scale = 0, inverse = 0, largest = 0;
    if (present && a.keeps) {
        scale = a.from.scales ? times(line_at(a.from, a.from.scales, scale_place(a.from, row, 0)), a.from.factor) : 1.0f;
        inverse = abs_(scale) < 1e-30f ? 0.0f : 1.0f / scale;
    }
    bool searches = present && !a.keeps;
    // One loop for both, so that what decodes a format is compiled once.
#pragma unroll 1
    for (u32 pass = searches ? 0 : 1; pass < 2; pass++) {
#pragma unroll 1
        for (u32 col = THREAD * 8; col < a.stride; col += THREADS * 8) {
            u32 count = present && col < cols ? min_(cols - col, 8u) : 0;
            float v[8] = {};
            if (count > 0)
                Format::eight(a.from, row, col, count, v);
            for (u32 k = 0; k < 8; k++)
                v[k] = k < count ? v[k] : 0.0f;
            if (pass == 1)
                store_row(a, (u64)row * a.stride + col, v, inverse);
            else
                for (u32 k = 0; k < 8; k++)
                    // Infinity stands for what is not a number, which maxima pass over.
                    largest = is_nan(v[k]) ? float_of(0x7f800000u) : max_(largest, abs_(v[k]));
        }
        if (pass == 0)
            scales_of(a.element, block_max(largest), scale, inverse);
    }
    if (THREAD == 0)
        a.scales[row] = scale;
}

#define QUANTIZER(name, Format)                    \
    DEVICE void quantize_##name(const Quantize& a) \
    {                                              \
        quantize<Format>(a);                       \
    }                                              \
    KERNEL_BOUNDED(quantize_##name, Quantize, 256)

FOR_EVERY_FORMAT(QUANTIZER)

// ---------------------------------------------------------------------------------------------------------------------
// What products of such rows stand for: `y = product * row_scale * column_scale + bias`.

template <typename Sum, typename T> struct Rescale {
    T* out;            // (rows, cols); may be where the products are, where both have one element and no padding
    const Sum* sums;   // (rows, stride)
    const float* row_scales;
    const float* column_scales;
    Param bias;        // none where its data is null
    u32 rows;
    u32 cols;
    u32 stride;
    u32 pad;
};

// A thread has eight neighbouring values. Floor: sums and result once; of 4096 x 10240 from i32 to bf16 250 MB, 100 us
// at 2.5 TB/s, from bf16 170 MB.
template <typename Sum, typename T> DEVICE void rescale(const Rescale<Sum, T>& a)
{
    u32 groups = (a.cols + 7) / 8, index = BLOCK_X * THREADS + THREAD;
    u32 row = index / groups, col = index % groups * 8;
    if (row >= a.rows)
        return;
    u64 from = (u64)row * a.stride + col, to = (u64)row * a.cols + col;
    float row_scale = a.row_scales[row];
    auto value = [&](Sum sum, u32 k) {
        float y = to_float(sum) * row_scale * a.column_scales[col + k];
        return from_float<T>(a.bias.data ? y + at(a.bias, col + k) : y);
    };
    if (a.cols % 8 != 0 || a.stride % 8 != 0) {
        for (u32 k = 0; k < min_(a.cols - col, 8u); k++)
            a.out[to + k] = value(a.sums[from + k], k);
        return;
    }
    Pack<Sum> sums[8 / Pack<Sum>::LEN];
    Pack<T> out[8 / Pack<T>::LEN];
    for (u32 i = 0; i < 8 / Pack<Sum>::LEN; i++)
        sums[i] = load_pack(a.sums + from + i * Pack<Sum>::LEN);
    for (u32 k = 0; k < 8; k++)
        out[k / Pack<T>::LEN].values[k % Pack<T>::LEN] = value(sums[k / Pack<Sum>::LEN].values[k % Pack<Sum>::LEN], k);
    for (u32 i = 0; i < 8 / Pack<T>::LEN; i++)
        store_pack(a.out + to + i * Pack<T>::LEN, out[i]);
}

// Sums of products of bytes, of fp8, and of halves.
typedef Rescale<i32, float> RescaleI32ToF32;
typedef Rescale<i32, bf16> RescaleI32ToBf16;
typedef Rescale<bf16, bf16> RescaleBf16;
typedef Rescale<float, float> RescaleF32;

#define RESCALER(name, Struct)          \
    DEVICE void name(const Struct& a)   \
    {                                   \
        rescale(a);                     \
    }                                   \
    KERNEL_BOUNDED(name, Struct, 256)

RESCALER(rescale_i32_to_f32, RescaleI32ToF32)
RESCALER(rescale_i32_to_bf16, RescaleI32ToBf16)
RESCALER(rescale_bf16, RescaleBf16)
RESCALER(rescale_f32, RescaleF32)
