// Convolutions as products of matrices: out (cout, pixels) = weight (cout, taps * channels) times, for each tap of the
// kernel, the pixels that it reads, gathered while they are loaded. pictures.cu lays pixels and weights out for it.
//
// Floor: 2 * cout * channels * taps * pixels operations. 128 channels to 128 by 3x3 at 1024x1024 are 309 GFLOP: 0.31 ms
// at the 990 TFLOP/s of an H100, about 0.5 ms by mma.sync; in f32, 4.6 ms at 67 TFLOP/s.

template <typename T> struct Convolution {
    T* out;           // (cout, out_height, out_width)
    const T* x;       // some rows of the picture: (rows, width, channels)
    const T* weight;  // (cout, channels / 32, kh * kw, 32)
    Param bias;       // a value per output channel
    u32 cout;
    u32 channels;     // a multiple of 32
    u32 kh;
    u32 kw;
    u32 stride;
    u32 pad_top;
    u32 pad_left;
    u32 doubled;      // 1 where each pixel of x stands for four of the picture
    u32 height;       // of the picture, doubled
    u32 width;
    u32 x_row;        // the row of the picture, not doubled, that x begins with
    u32 out_row;      // the rows of the output that are made
    u32 out_end;
    u32 out_height;
    u32 out_width;
    u32 add;          // whether the convolution is added to what is in `out`
};

// A block makes 128 pixels, 8 rows of 16, and goes through all taps of the kernel with 32 channels before it comes to
// the next 32: what it reads of them is 180 pixels, 11.5 KB in bf16, which the L1 cache gives for all taps but the
// first. By way of the L2 cache alone, both factors would be 16 KB per million operations, and its 5 TB/s or so the
// limit.
constexpr u32 PIXELS = 128;
constexpr u32 PATCH_WIDTH = 16;
constexpr u32 PATCH_HEIGHT = 8;
constexpr u32 GROUP = 32;  // channels
constexpr u32 NOWHERE = 0xffffffffu;

// What a thread loads next: some channels, from the pixels that a tap of the kernel reads for N output pixels of a
// column.
template <u32 N> struct Walk {
    u32 column;   // of the output
    u32 row;      // of the first of the N, which are PATCH_HEIGHT / N apart
    u32 channel;
    u32 ky;       // the tap
    u32 kx;
    u32 at[N];    // where in x the pixels begin, or NOWHERE: beside the picture
};

template <u32 N, typename T> DEVICE void locate(Walk<N>& walk, const Convolution<T>& a)
{
    // What lies left of the picture or above it wraps to a large number.
    const u32 x = walk.column * a.stride + walk.kx - a.pad_left;
#pragma unroll
    for (u32 i = 0; i < N; i++) {
        const u32 row = walk.row + i * (PATCH_HEIGHT / N);
        const u32 y = row * a.stride + walk.ky - a.pad_top;
        const u32 pixel = ((y >> a.doubled) - a.x_row) * (a.width >> a.doubled) + (x >> a.doubled);
        walk.at[i] = x < a.width && y < a.height && row < a.out_end ? pixel * a.channels : NOWHERE;
    }
}

// Goes to the next channels of a group, of which it takes so many at once; then to the next tap, then to the next
// group.
template <u32 CHANNELS, u32 N, typename T> DEVICE void advance(Walk<N>& walk, const Convolution<T>& a)
{
    walk.channel += CHANNELS;
    if (walk.channel % GROUP != 0)
        return;
    walk.channel -= GROUP;
    if (++walk.kx == a.kw) {
        walk.kx = 0;
        if (++walk.ky == a.kh) {
            walk.ky = 0;
            walk.channel += GROUP;
        }
    }
    locate(walk, a);
}

// ---------------------------------------------------------------------------------------------------------------------
// By tensor cores: a block makes 128 pixels of 128 or 32 channels by 4 warps, each M_TILES * 16 channels of
// N_TILES * 8 pixels: with 64 by 64, shared memory is half as busy as the tensor cores. Three stages of 32 channels in
// shared memory, of which two arrive while one is multiplied. Of 215 instructions of the wide loop 64 are products.
// Shared memory, and registers from sm_80 to sm_120 by ptxas, without spills:
//   convolve_wide_bf16     48 KiB   186 to 220   two blocks on every SM, in the 100 KB of Ada too
//   convolve_narrow_bf16   30 KiB   64 to 71     for few output channels, as the 3 of a picture

constexpr u32 HALF_DEPTH = GROUP;
constexpr u32 STAGES = 3;

// Rows of 32 values are 4 chunks of 16 bytes, and two rows are a line of all banks: chunk c of row r lies at place
// c ^ (r / 2 % 4), so that a chunk of 8 rows that follow each other lies in 8 different groups of banks.
DEVICE u32 half_place(u32 row, u32 chunk)
{
    return row * HALF_DEPTH + (chunk ^ row / 2 % 4) * 8;
}

template <u32 ROWS>
DEVICE void load_stage(bf16* w_tile, Walk<4>& walk, const Convolution<bf16>& a, u32 first, u32 step)
{
    const u32 row = THREAD / 4, chunk = THREAD % 4;
    const u32 depth = a.kh * a.kw * a.channels;
    bf16* const x_tile = w_tile + ROWS * HALF_DEPTH;
    // A thread's rows are 32 apart, and have their chunk at the same place.
    const u32 to = half_place(row, chunk);
#pragma unroll
    for (u32 i = 0; i < ROWS / 32; i++) {
        const u32 channel = first + row + 32 * i;
        const bool valid = channel < a.cout;
        const bf16* const from = a.weight + (u64)(valid ? channel : 0) * depth + step * HALF_DEPTH + chunk * 8;
        copy_async_16_or_zero<true>(w_tile + to + 32 * i * HALF_DEPTH, from, valid);
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const bool valid = walk.at[i] != NOWHERE;
        const bf16* const from = a.x + (valid ? walk.at[i] + walk.channel + chunk * 8 : 0);
        copy_async_16_or_zero<true>(x_tile + to + 32 * i * HALF_DEPTH, from, valid);
    }
    advance<HALF_DEPTH>(walk, a);
}

// sums += weights times pixels, for the part of a stage that is a warp's.
template <u32 M_TILES, u32 N_TILES>
DEVICE void multiply_stage(float sums[M_TILES][N_TILES][4], const bf16* weights, const bf16* pixels)
{
    const u32 w_at = half_place(LANE % 16, LANE / 16), x_at = half_place(LANE / 16 * 8 + LANE % 8, LANE / 8 % 2);
#pragma unroll
    for (u32 k = 0; k < HALF_DEPTH / 16; k++) {
        u32 left[M_TILES][4], right[N_TILES / 2][4];
#pragma unroll
        for (u32 m = 0; m < M_TILES; m++)
            ldmatrix_x4(left[m], weights + (w_at ^ k * 16) + m * 16 * HALF_DEPTH);
#pragma unroll
        for (u32 n = 0; n < N_TILES / 2; n++)
            ldmatrix_x4(right[n], pixels + (x_at ^ k * 16) + n * 16 * HALF_DEPTH);
#pragma unroll
        for (u32 m = 0; m < M_TILES; m++)
#pragma unroll
            for (u32 n = 0; n < N_TILES; n++)
                mma_bf16_16816(sums[m][n], left[m], right[n / 2] + n % 2 * 2);
    }
}

// Eight pixels of an output channel.
DEVICE void store_eight(const Convolution<bf16>& a, const float* from, u32 channel, u32 row, u32 column)
{
    if (channel >= a.cout || row >= a.out_end || column >= a.out_width)
        return;
    float sums[8];
    load_floats(sums, from);
    const float bias = at(a.bias, channel);
    bf16* const to = a.out + ((u64)channel * a.out_height + row) * a.out_width + column;
    const u32 count = min_(8u, a.out_width - column);
    Pack<bf16> pack = {};
    if (a.out_width % 8 == 0) {
        if (a.add != 0)
            pack = load_pack(to);
#pragma unroll
        for (u32 i = 0; i < 8; i++)
            sums[i] += bias + to_float(pack.values[i]);
        store_floats(to, sums);
        return;
    }
    for (u32 i = 0; i < count; i++)
        to[i] = from_float<bf16>((a.add != 0 ? to_float(to[i]) : 0.0f) + (sums[i] + bias));
}

template <u32 WARPS_M, u32 M_TILES, u32 N_TILES> DEVICE void convolve_halves(const Convolution<bf16>& a)
{
    constexpr u32 ROWS = WARPS_M * M_TILES * 16, COLUMNS = N_TILES * 8;
    constexpr u32 STAGE = (ROWS + PIXELS) * HALF_DEPTH;
    static_assert(4 / WARPS_M * COLUMNS == PIXELS, "4 warps share the pixels");
    DYNAMIC_SHARED(bf16, stages);
    const u32 channel = BLOCK_X * ROWS, column = BLOCK_Y * PATCH_WIDTH, row = a.out_row + BLOCK_Z * PATCH_HEIGHT;
    const u32 w_row = WARP % WARPS_M * M_TILES * 16, x_row = WARP / WARPS_M * COLUMNS;
    const u32 steps = a.kh * a.kw * (a.channels / HALF_DEPTH);
    Walk<4> walk = {column + THREAD / 4 % PATCH_WIDTH, row + THREAD / (4 * PATCH_WIDTH), 0, 0, 0, {}};
    locate(walk, a);

    float sums[M_TILES][N_TILES][4] = {};
    for (u32 step = 0; step < STAGES - 1; step++) {
        if (step < steps)
            load_stage<ROWS>(stages + step * STAGE, walk, a, channel, step);
        copy_async_commit();
    }
    u32 here = 0, next = STAGES - 1;
    for (u32 step = 0; step < steps; step++) {
        copy_async_wait<STAGES - 2>();
        sync_threads();  // this stage is there, and nobody reads the one before
        if (step + STAGES - 1 < steps)
            load_stage<ROWS>(stages + next * STAGE, walk, a, channel, step + STAGES - 1);
        copy_async_commit();
        const bf16* const stage = stages + here * STAGE;
        multiply_stage<M_TILES, N_TILES>(sums, stage + w_row * HALF_DEPTH, stage + (ROWS + x_row) * HALF_DEPTH);
        here = here + 1 == STAGES ? 0 : here + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }

    // Sums go through shared memory, 16 channels at a time, such that a lane stores 16 bytes. Rows 8 banks further meet
    // all banks.
    constexpr u32 ACROSS = COLUMNS + 8;
    copy_async_wait<0>();
    sync_threads();
    float* const own = reinterpret_cast<float*>(stages) + WARP * 16 * ACROSS;
#pragma unroll
    for (u32 m = 0; m < M_TILES; m++) {
        sync_warp();
#pragma unroll
        for (u32 n = 0; n < N_TILES; n++)
#pragma unroll
            for (u32 half = 0; half < 2; half++)
                store_floats(own + (LANE / 4 + half * 8) * ACROSS + n * 8 + LANE % 4 * 2,
                             {sums[m][n][2 * half], sums[m][n][2 * half + 1]});
        sync_warp();
#pragma unroll
        for (u32 i = LANE; i < 16 * N_TILES; i += 32) {
            const u32 line = i / N_TILES, first = i % N_TILES * 8, pixel = x_row + first;
            store_eight(a, own + line * ACROSS + first, channel + w_row + m * 16 + line, row + pixel / PATCH_WIDTH,
                        column + pixel % PATCH_WIDTH);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// In f32: a block makes 128 pixels of 16 * ROWS channels by 256 threads, each ROWS channels of 8 pixels: for 64
// products it reads 16 floats of shared memory. Wide: 16.5 KiB of shared memory, 123 to 128 registers, so that two
// blocks fit.

constexpr u32 FLOAT_DEPTH = 16;
constexpr u32 ACROSS_PIXELS = PIXELS + 4;

template <u32 ROWS> DEVICE void convolve_floats(const Convolution<float>& a)
{
    constexpr u32 CHANNELS = 16 * ROWS, ACROSS = CHANNELS + 4, LOADS = CHANNELS / 64;
    SHARED Pack<float> w_packs[FLOAT_DEPTH * ACROSS / 4];
    SHARED Pack<float> x_packs[FLOAT_DEPTH * ACROSS_PIXELS / 4];
    float *const w_tile = w_packs[0].values, *const x_tile = x_packs[0].values;
    const u32 channel = BLOCK_X * CHANNELS, column = BLOCK_Y * PATCH_WIDTH, row = a.out_row + BLOCK_Z * PATCH_HEIGHT;
    const u32 depth = a.kh * a.kw * a.channels, line = THREAD / 4, part = THREAD % 4 * 4;
    const u32 own_row = THREAD / 16 * ROWS, own_pixel = THREAD % 16 * 4;
    Walk<2> walk = {column + line % PATCH_WIDTH, row + line / PATCH_WIDTH, 0, 0, 0, {}};
    locate(walk, a);

    float sums[ROWS][8] = {};
    for (u32 from = 0; from < depth; from += FLOAT_DEPTH) {
        Pack<float> weights[LOADS] = {}, pixels[2] = {};
#pragma unroll
        for (u32 i = 0; i < LOADS; i++)
            if (channel + line + 64 * i < a.cout)
                weights[i] = load_pack(a.weight + (u64)(channel + line + 64 * i) * depth + from + part);
#pragma unroll
        for (u32 i = 0; i < 2; i++)
            if (walk.at[i] != NOWHERE)
                pixels[i] = load_pack(a.x + walk.at[i] + walk.channel + part);
        advance<FLOAT_DEPTH>(walk, a);
        sync_threads();
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
#pragma unroll
            for (u32 i = 0; i < LOADS; i++)
                w_tile[(part + j) * ACROSS + line + 64 * i] = weights[i].values[j];
#pragma unroll
            for (u32 i = 0; i < 2; i++)
                x_tile[(part + j) * ACROSS_PIXELS + line + 64 * i] = pixels[i].values[j];
        }
        sync_threads();
#pragma unroll 4
        for (u32 k = 0; k < FLOAT_DEPTH; k++) {
            const Pack<float> low = load_pack(x_tile + k * ACROSS_PIXELS + own_pixel);
            const Pack<float> high = load_pack(x_tile + k * ACROSS_PIXELS + 64 + own_pixel);
#pragma unroll
            for (u32 m = 0; m < ROWS; m += 4) {
                const Pack<float> w = load_pack(w_tile + k * ACROSS + own_row + m);
#pragma unroll
                for (u32 i = 0; i < 16; i++) {
                    sums[m + i / 4][i % 4] = fma_(w.values[i / 4], low.values[i % 4], sums[m + i / 4][i % 4]);
                    sums[m + i / 4][4 + i % 4] = fma_(w.values[i / 4], high.values[i % 4], sums[m + i / 4][4 + i % 4]);
                }
            }
        }
    }
#pragma unroll
    for (u32 m = 0; m < ROWS; m++)
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            const u32 c = channel + own_row + m, pixel = i / 4 * 64 + own_pixel + i % 4;
            const u32 y = row + pixel / PATCH_WIDTH, x = column + pixel % PATCH_WIDTH;
            if (c < a.cout && y < a.out_end && x < a.out_width) {
                float* const to = a.out + ((u64)c * a.out_height + y) * a.out_width + x;
                *to = (a.add != 0 ? *to : 0.0f) + (sums[m][i] + at(a.bias, c));
            }
        }
}

// ---------------------------------------------------------------------------------------------------------------------
// Wide: 128 output channels per block. Narrow: 32 in bf16, 64 in f32.

template <typename T> DEVICE void convolve_wide(const Convolution<T>& a)
{
    if constexpr (ELEMENT_OF<T> == ELEMENT_OF<float>)
        convolve_floats<8>(a);
    else
        convolve_halves<2, 4, 8>(a);
}
KERNELS_BOUNDED(convolve_wide, Convolution, 256)

template <typename T> DEVICE void convolve_narrow(const Convolution<T>& a)
{
    if constexpr (ELEMENT_OF<T> == ELEMENT_OF<float>)
        convolve_floats<4>(a);
    else
        convolve_halves<1, 2, 4>(a);
}
KERNELS_BOUNDED(convolve_narrow, Convolution, 256)
