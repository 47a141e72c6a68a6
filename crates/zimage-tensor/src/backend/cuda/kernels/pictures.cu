// What is done to pictures around convolutions (convolutions.cu): group norms, and the layout that convolutions read.
// Tensors are (channels, height, width). All of this is bound by memory.

// ---------------------------------------------------------------------------------------------------------------------
// Statistics of group norms, in two steps, so that nothing depends on the order in which blocks run.

constexpr u32 SLICE = 8192;  // values whose moments a block takes: 32 per thread, which stay in registers

template <typename T> struct Moments {
    float* parts;  // (groups, slices, 2): a slice's mean, and the sum of the squared distances to it
    const T* x;    // (groups, values)
    u32 values;    // of a group
    u32 slices;    // values / SLICE, rounded up
};

// One block per slice and group. Reads x once: 268 MB for 128 channels of 1024x1024 in bf16, 80 us at 3.35 TB/s. The
// mean comes first and the distances to it after, so that a small deviation beside a large mean keeps its digits.
template <typename T> DEVICE void moments(const Moments<T>& a)
{
    constexpr u32 LEN = Pack<T>::LEN, OWN = SLICE / 256;
    const u32 first = BLOCK_X * SLICE, count = min_(SLICE, a.values - first);
    const T* const x = a.x + (u64)BLOCK_Y * a.values + first;
    Pack<T> packs[OWN / LEN] = {};
    // All loads before their first use, so that they are under way at the same time.
    if (reinterpret_cast<u64>(x) % 16 == 0 && count == SLICE) {
#pragma unroll
        for (u32 i = 0; i < OWN / LEN; i++)
            packs[i] = load_pack(x + (i * 256 + THREAD) * LEN);
    } else {
#pragma unroll
        for (u32 i = 0; i < OWN; i++) {
            const u32 place = (i / LEN * 256 + THREAD) * LEN + i % LEN;
            if (place < count)
                packs[i / LEN].values[i % LEN] = x[place];
        }
    }
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (u32 i = 0; i < OWN; i++)
        sum += to_float(packs[i / LEN].values[i % LEN]);
    const float mean = block_sum(sum) / (float)count;
#pragma unroll
    for (u32 i = 0; i < OWN; i++) {
        const u32 place = (i / LEN * 256 + THREAD) * LEN + i % LEN;
        const float distance = place < count ? to_float(packs[i / LEN].values[i % LEN]) - mean : 0.0f;
        squares = fma_(distance, distance, squares);
    }
    squares = block_sum(squares);
    if (THREAD == 0) {
        float* const part = a.parts + ((u64)BLOCK_Y * a.slices + BLOCK_X) * 2;
        part[0] = mean;
        part[1] = squares;
    }
}
KERNELS_BOUNDED(moments, Moments, 256)

struct ChannelFactors {
    float* factors;      // (channels, 4): what is subtracted, the factor after that, what is added then, and 0
    const float* parts;  // of `moments`
    Param weight;        // a value per channel
    Param bias;          // the same
    u32 values;          // of a group
    u32 slices;
    u32 channels;        // of a group
    float eps;
};

// The moments of the values of both.
// Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
DEVICE void merge_moments(float& count, float& mean, float& squares, float other, float other_mean, float other_squares)
{
    const float total = count + other;
    if (other == 0.0f)
        return;
    const float distance = other_mean - mean, share = other / total;
    mean += distance * share;
    squares += other_squares + distance * distance * count * share;
    count = total;
}

// One warp per group: a few hundred parts at most per lane, microseconds.
DEVICE void channel_factors(const ChannelFactors& a)
{
    float count = 0.0f, mean = 0.0f, squares = 0.0f;
    for (u32 i = LANE; i < a.slices; i += 32) {
        const float* const part = a.parts + ((u64)BLOCK_X * a.slices + i) * 2;
        merge_moments(count, mean, squares, (float)min_(SLICE, a.values - i * SLICE), part[0], part[1]);
    }
    for (u32 mask = 1; mask < 32; mask *= 2) {
        const float other = shuffle_xor(count, mask), other_mean = shuffle_xor(mean, mask);
        merge_moments(count, mean, squares, other, other_mean, shuffle_xor(squares, mask));
    }
    // Lanes have merged in different orders: one of them decides.
    mean = shuffle(mean, 0);
    const float inverse = 1.0f / sqrt_(shuffle(squares, 0) / shuffle(count, 0) + a.eps);
    for (u32 i = LANE; i < a.channels; i += 32) {
        const u32 channel = BLOCK_X * a.channels + i;
        store_floats(a.factors + 4 * channel, {mean, inverse * at(a.weight, channel), at(a.bias, channel), 0.0f});
    }
}
KERNEL_BOUNDED(channel_factors, ChannelFactors, 32)

// (x - mean) * factor + bias
DEVICE float normalized(float x, const Pack<float>& factors)
{
    return fma_(x - factors.values[0], factors.values[1], factors.values[2]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The norm alone.

template <typename T> struct Normalize {
    T* out;
    const T* x;            // (channels, plane)
    const float* factors;  // of `channel_factors`
    u32 plane;             // height * width
};

// A block has 1024 values of a channel. Reads and writes each value once; it is done once for a picture, on 512
// channels of 128x128 (for 1024x1024): 34 MB, 10 us.
template <typename T> DEVICE void normalize(const Normalize<T>& a)
{
    const Pack<float> factors = load_pack(a.factors + 4 * BLOCK_Y);
    const u64 row = (u64)BLOCK_Y * a.plane;
    const u32 pixel = BLOCK_X * 1024 + THREAD;
    float values[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++)
        values[i] = pixel + i * 256 < a.plane ? to_float(a.x[row + pixel + i * 256]) : 0.0f;
#pragma unroll
    for (u32 i = 0; i < 4; i++)
        if (pixel + i * 256 < a.plane)
            a.out[row + pixel + i * 256] = from_float<T>(normalized(values[i], factors));
}
KERNELS_BOUNDED(normalize, Normalize, 256)

// ---------------------------------------------------------------------------------------------------------------------
// What a convolution reads: all channels of a pixel beside each other, so that a shift by a pixel is a shift by whole
// rows of shared memory, and every load of 16 bytes is at a multiple of 16, whatever the width of the picture.

template <typename T> struct ToPixels {
    T* out;                // (pixels, padded): zeros beyond the channels
    const T* x;            // (channels, plane)
    const float* factors;  // of `channel_factors`: then silu(norm(x)) is written; or null: then x
    u32 channels;
    u32 padded;            // a multiple of 32
    u32 plane;
    u32 first;             // the pixel of the plane that comes first
    u32 pixels;            // how many follow
};

// A block has 64 pixels of 32 channels, and turns them in shared memory. Reads a value and writes one: 537 MB for 128
// channels of 1024x1024 in bf16, 0.16 ms at 3.35 TB/s, beside 0.31 ms or more for the convolution.
// Norm and SiLU are here and not where the convolution reads: there each value would need its exponential 9 times, once
// per tap of the kernel, and that for every 128 output channels.
template <typename T> DEVICE void to_pixels(const ToPixels<T>& a)
{
    // Rows of an odd number of words: writes down a column and reads along a row meet all banks.
    constexpr u32 LEN = Pack<T>::LEN, ACROSS = 32 + 4 / sizeof(T);
    constexpr float LOG2_E = 1.44269504088896341f;
    SHARED T tile[64 * ACROSS];
    const u32 pixel = BLOCK_X * 64, channel = BLOCK_Y * 32;
    const u32 p = THREAD % 64, first = THREAD / 64;
    const bool valid = pixel + p < a.pixels;
    const T* const x = a.x + (u64)channel * a.plane + a.first + pixel + p;
    T values[8];
    // All loads before their first use, so that they are under way at the same time.
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        const u32 c = first + i * 4;
        values[i] = valid && channel + c < a.channels ? x[(u64)c * a.plane] : from_float<T>(0.0f);
    }
    if (a.factors != nullptr) {
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            const u32 c = channel + first + i * 4;
            if (c < a.channels) {
                const float y = normalized(to_float(values[i]), load_pack(a.factors + 4 * c));
                values[i] = from_float<T>(y * fast_reciprocal(1.0f + fast_exp2(y * -LOG2_E)));
            }
        }
    }
#pragma unroll
    for (u32 i = 0; i < 8; i++)
        tile[p * ACROSS + first + i * 4] = values[i];
    sync_threads();
#pragma unroll
    for (u32 i = THREAD; i < 64 * 32 / LEN; i += 256) {
        const u32 p = i / (32 / LEN), c = i % (32 / LEN) * LEN;
        Pack<T> pack;
#pragma unroll
        for (u32 j = 0; j < LEN; j++)
            pack.values[j] = tile[p * ACROSS + c + j];
        if (pixel + p < a.pixels)
            store_pack(a.out + (u64)(pixel + p) * a.padded + channel + c, pack);
    }
}
KERNELS_BOUNDED(to_pixels, ToPixels, 256)

template <typename T> struct ReorderWeight {
    T* out;        // (rows, padded / 32, taps, 32): zeros beyond the channels
    Param weight;  // (rows, channels, taps)
    u32 channels;
    u32 padded;    // a multiple of 32
    u32 taps;
    u32 count;     // values of `out`
};

// A thread per value of `out`. At most 2.4 million of them (512 channels to 512, 3x3): 14 MB, 5 us, beside 0.1 ms or
// more for the convolution; kept in this form beside the first, the weights of a VAE would take 0.17 GB more.
template <typename T> DEVICE void reorder_weight(const ReorderWeight<T>& a)
{
    const u32 i = BLOCK_X * 256 + THREAD;
    if (i >= a.count)
        return;
    const u32 group = i / (32 * a.taps), tap = i / 32 % a.taps, row = group / (a.padded / 32);
    const u32 channel = group % (a.padded / 32) * 32 + i % 32;
    const bool valid = channel < a.channels;
    a.out[i] = from_float<T>(valid ? at(a.weight, (row * a.channels + channel) * a.taps + tap) : 0.0f);
}
KERNELS_BOUNDED(reorder_weight, ReorderWeight, 256)
