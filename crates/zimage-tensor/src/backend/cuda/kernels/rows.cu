// Norms, elementwise operations and rotations. All of them do a few operations per value, so their floor is the time
// that their bytes take: what they read and write once, at the bandwidth of memory. What is said below of an H100 is
// with 3.35 TB/s; 4096 tokens of 3840 values in bf16 are 31 MB, or 9.4 us one way.

// ---------------------------------------------------------------------------------------------------------------------
// Norms: a block for each row, which it reads once and holds in registers, 16 values a thread. Threads ask for 16 bytes
// at a time, and the blocks of a multiprocessor are at different places, so some always load while others sum. Floor:
// the rows in and out, 19 us for 4096 tokens, 28 us where a third one is added to.

constexpr u32 HELD = 16;
constexpr u32 LARGEST_BLOCK = 512;

// Calls finish(i, values) with every piece of a row from the i-th value on, divided by the root of its mean square plus
// eps, after the mean is subtracted where it is CENTERED. Rows that no block can hold, and rows that do not end with a
// pack, are read again, value by value.
template <bool CENTERED, typename T, typename Finish>
DEVICE void normalize(const T* x, u32 cols, float eps, Finish finish)
{
    constexpr u32 LEN = Pack<T>::LEN;
    const float scale = 1.0f / (float)cols;
    float mean = 0.0f, squares = 0.0f;
    if (cols % LEN == 0 && cols <= HELD * THREADS) {
        // All pieces are asked for before the first is looked at.
        Pack<T> packs[HELD / LEN];
#pragma unroll
        for (u32 piece = 0; piece < HELD / LEN; piece++) {
            u32 i = (piece * THREADS + THREAD) * LEN;
            packs[piece] = i < cols ? load_pack(x + i) : Pack<T>{};
        }
        float row[HELD / LEN][LEN];
        float sum = 0.0f;
#pragma unroll
        for (u32 piece = 0; piece < HELD / LEN; piece++)
#pragma unroll
            for (u32 j = 0; j < LEN; j++) {
                row[piece][j] = to_float(packs[piece].values[j]);
                sum += row[piece][j];
            }
        if constexpr (CENTERED)
            mean = block_sum(sum) * scale;
#pragma unroll
        for (u32 piece = 0; piece < HELD / LEN; piece++)
#pragma unroll
            for (u32 j = 0; j < LEN; j++) {
                float value = row[piece][j] - mean;
                squares += (piece * THREADS + THREAD) * LEN < cols ? value * value : 0.0f;
                row[piece][j] = value;
            }
        float factor = rsqrt_(block_sum(squares) * scale + eps);
#pragma unroll
        for (u32 piece = 0; piece < HELD / LEN; piece++) {
            u32 i = (piece * THREADS + THREAD) * LEN;
#pragma unroll
            for (u32 j = 0; j < LEN; j++)
                row[piece][j] *= factor;
            if (i < cols)
                finish(i, row[piece]);
        }
        return;
    }
    if constexpr (CENTERED) {
        float sum = 0.0f;
        for (u32 i = THREAD; i < cols; i += THREADS)
            sum += to_float(x[i]);
        mean = block_sum(sum) * scale;
    }
    for (u32 i = THREAD; i < cols; i += THREADS) {
        float value = to_float(x[i]) - mean;
        squares += value * value;
    }
    float factor = rsqrt_(block_sum(squares) * scale + eps);
    for (u32 i = THREAD; i < cols; i += THREADS) {
        float value[1] = {(to_float(x[i]) - mean) * factor};
        finish(i, value);
    }
}

template <typename T> struct Norm {
    T* out;
    const T* x;
    Param weight;
    u32 cols;
    float eps;
};

template <typename T> struct ScaledNorm {
    T* out;
    const T* x;
    Param weight;
    Param scale;
    u32 cols;
    float eps;
};

// values *= p
template <u32 N> DEVICE void multiply_by(float (&values)[N], const Param& p, u32 i)
{
    float factors[N];
    load_params(factors, p, i);
#pragma unroll
    for (u32 j = 0; j < N; j++)
        values[j] *= factors[j];
}

// *place += values
template <u32 N, typename T> DEVICE void add_to(T* place, const float (&values)[N])
{
    float sums[N];
    load_floats(sums, place);
#pragma unroll
    for (u32 j = 0; j < N; j++)
        sums[j] += values[j];
    store_floats(place, sums);
}

// out = normalized(x) * weight
template <typename T> DEVICE void rms_norm(const Norm<T>& a)
{
    u64 row = (u64)BLOCK_X * a.cols;
    normalize<false>(a.x + row, a.cols, a.eps, [&](u32 i, auto& values) {
        multiply_by(values, a.weight, i);
        store_floats(a.out + row + i, values);
    });
}
KERNELS_BOUNDED(rms_norm, Norm, LARGEST_BLOCK)

// out = normalized(x) * weight * scale
template <typename T> DEVICE void rms_norm_scaled(const ScaledNorm<T>& a)
{
    u64 row = (u64)BLOCK_X * a.cols;
    normalize<false>(a.x + row, a.cols, a.eps, [&](u32 i, auto& values) {
        multiply_by(values, a.weight, i);
        multiply_by(values, a.scale, i);
        store_floats(a.out + row + i, values);
    });
}
KERNELS_BOUNDED(rms_norm_scaled, ScaledNorm, LARGEST_BLOCK)

// out += normalized(x) * weight
template <typename T> DEVICE void add_rms_norm(const Norm<T>& a)
{
    u64 row = (u64)BLOCK_X * a.cols;
    normalize<false>(a.x + row, a.cols, a.eps, [&](u32 i, auto& values) {
        multiply_by(values, a.weight, i);
        add_to(a.out + row + i, values);
    });
}
KERNELS_BOUNDED(add_rms_norm, Norm, LARGEST_BLOCK)

// out += scale * normalized(x) * weight
template <typename T> DEVICE void add_rms_norm_gated(const ScaledNorm<T>& a)
{
    u64 row = (u64)BLOCK_X * a.cols;
    normalize<false>(a.x + row, a.cols, a.eps, [&](u32 i, auto& values) {
        multiply_by(values, a.weight, i);
        multiply_by(values, a.scale, i);
        add_to(a.out + row + i, values);
    });
}
KERNELS_BOUNDED(add_rms_norm_gated, ScaledNorm, LARGEST_BLOCK)

// out = normalized(x - mean) * weight
template <typename T> DEVICE void layer_norm_scaled(const Norm<T>& a)
{
    u64 row = (u64)BLOCK_X * a.cols;
    normalize<true>(a.x + row, a.cols, a.eps, [&](u32 i, auto& values) {
        multiply_by(values, a.weight, i);
        store_floats(a.out + row + i, values);
    });
}
KERNELS_BOUNDED(layer_norm_scaled, Norm, LARGEST_BLOCK)

// ---------------------------------------------------------------------------------------------------------------------
// Elementwise operations: 16 bytes a thread, which with 2048 threads to a multiprocessor are more than must be under
// way to keep memory busy. Floor: the values in and out, 75 us for silu_mul of 4096 tokens of 10240 values in bf16.

template <typename T> struct OfOne {
    T* x;
    u32 len;
};

template <typename T> struct OfTwo {
    T* x;
    const T* y;
    u32 len;
};

// x = f(x)
template <typename T, typename F> DEVICE void change(const OfOne<T>& a, F f)
{
    constexpr u32 LEN = Pack<T>::LEN;
    u32 i = (BLOCK_X * THREADS + THREAD) * LEN;
    if (i + LEN <= a.len) {
        float x[LEN];
        load_floats(x, a.x + i);
#pragma unroll
        for (u32 j = 0; j < LEN; j++)
            x[j] = f(x[j]);
        store_floats(a.x + i, x);
        return;
    }
    for (; i < a.len; i++)
        a.x[i] = from_float<T>(f(to_float(a.x[i])));
}

// x = f(x, y)
template <typename T, typename F> DEVICE void change_by(const OfTwo<T>& a, F f)
{
    constexpr u32 LEN = Pack<T>::LEN;
    u32 i = (BLOCK_X * THREADS + THREAD) * LEN;
    if (i + LEN <= a.len) {
        float x[LEN], y[LEN];
        load_floats(x, a.x + i);
        load_floats(y, a.y + i);
#pragma unroll
        for (u32 j = 0; j < LEN; j++)
            x[j] = f(x[j], y[j]);
        store_floats(a.x + i, x);
        return;
    }
    for (; i < a.len; i++)
        a.x[i] = from_float<T>(f(to_float(a.x[i]), to_float(a.y[i])));
}

DEVICE float silu_of(float x)
{
    return x / (1.0f + exp_(-x));
}

template <typename T> DEVICE void silu(const OfOne<T>& a)
{
    change(a, [](float x) { return silu_of(x); });
}
KERNELS_BOUNDED(silu, OfOne, 256)

template <typename T> DEVICE void tanh(const OfOne<T>& a)
{
    change(a, [](float x) { return tanh_(x); });
}
KERNELS_BOUNDED(tanh, OfOne, 256)

template <typename T> DEVICE void one_plus(const OfOne<T>& a)
{
    change(a, [](float x) { return 1.0f + x; });
}
KERNELS_BOUNDED(one_plus, OfOne, 256)

template <typename T> DEVICE void add(const OfTwo<T>& a)
{
    change_by(a, [](float x, float y) { return x + y; });
}
KERNELS_BOUNDED(add, OfTwo, 256)

// x = y - x
template <typename T> DEVICE void subtract_from(const OfTwo<T>& a)
{
    change_by(a, [](float x, float y) { return y - x; });
}
KERNELS_BOUNDED(subtract_from, OfTwo, 256)

// x = silu(x) * y
template <typename T> DEVICE void silu_mul(const OfTwo<T>& a)
{
    change_by(a, [](float x, float y) { return silu_of(x) * y; });
}
KERNELS_BOUNDED(silu_mul, OfTwo, 256)

struct Cast {
    void* out;
    const void* x;
    u32 len;
    u32 from;
    u32 to;
};

// N values from one element to another, both by their numbers.
template <u32 N> DEVICE void cast_some(const Cast& a, u32 i)
{
    float x[N];
    switch (a.from) {
    case 0: load_floats(x, static_cast<const float*>(a.x) + i); break;
    case 1: load_floats(x, static_cast<const bf16*>(a.x) + i); break;
    case 2: load_floats(x, static_cast<const f16*>(a.x) + i); break;
    case 3: load_floats(x, static_cast<const f8*>(a.x) + i); break;
    case 4: load_floats(x, static_cast<const i8*>(a.x) + i); break;
    default: load_floats(x, static_cast<const i32*>(a.x) + i);
    }
    switch (a.to) {
    case 0: store_floats(static_cast<float*>(a.out) + i, x); break;
    case 1: store_floats(static_cast<bf16*>(a.out) + i, x); break;
    default: store_floats(static_cast<f16*>(a.out) + i, x);
    }
}

// 8 values a thread: 16 bytes of the narrower kinds.
DEVICE void cast(const Cast& a)
{
    u32 i = (BLOCK_X * THREADS + THREAD) * 8;
    if (i + 8 <= a.len)
        return cast_some<8>(a, i);
    for (; i < a.len; i++)
        cast_some<1>(a, i);
}
KERNEL_BOUNDED(cast, Cast, 256)

// ---------------------------------------------------------------------------------------------------------------------
// Operations with a factor for each column: a row of blocks in y for each row of values.

template <typename T> struct Scale {
    T* out;
    const T* x;
    Param factors;
    u32 cols;
    u32 x_cols;
    u32 skip;
};

// Calls f with pieces of a row of `out`, and of the part of the row of x that begins after `skip` values.
template <typename T, typename F> DEVICE void scale_row(const Scale<T>& a, F f)
{
    constexpr u32 LEN = Pack<T>::LEN;
    T* out = a.out + (u64)BLOCK_X * a.cols;
    const T* x = a.x + (u64)BLOCK_X * a.x_cols + a.skip;
    u32 i = (BLOCK_Y * THREADS + THREAD) * LEN;
    if (a.cols % LEN == 0 && a.x_cols % LEN == 0 && a.skip % LEN == 0) {
        if (i >= a.cols)
            return;
        float values[LEN];
        load_floats(values, x + i);
        multiply_by(values, a.factors, i);
        return f(out + i, values);
    }
    for (u32 j = i; j < i + LEN && j < a.cols; j++) {
        float value[1] = {to_float(x[j]) * at(a.factors, j)};
        f(out + j, value);
    }
}

// out = x * factors
template <typename T> DEVICE void scale_columns(const Scale<T>& a)
{
    scale_row(a, [](T* out, auto& values) { store_floats(out, values); });
}
KERNELS_BOUNDED(scale_columns, Scale, 256)

// out += x * factors
template <typename T> DEVICE void add_scaled(const Scale<T>& a)
{
    scale_row(a, [](T* out, auto& values) { add_to(out, values); });
}
KERNELS_BOUNDED(add_scaled, Scale, 256)

template <typename T> struct MixRows {
    T* out;
    const T* x;
    Param w;
    u32 rows;
    u32 inner;
    u32 cols;
    u32 groups;
};

// out (rows, cols) = w (rows, inner) x (inner, cols) of each group. A thread has a column of a group, of which it
// computes 8 rows at a time, so x is read once from memory and rows / 8 times from caches; floor: x in, out out.
// Matrices of adapters have few rows.
template <typename T> DEVICE void mix_rows(const MixRows<T>& a)
{
    u32 i = BLOCK_X * THREADS + THREAD, group = i / a.cols, col = i - group * a.cols;
    if (group >= a.groups)
        return;
    const T* x = a.x + (u64)group * a.inner * a.cols + col;
    T* out = a.out + (u64)group * a.rows * a.cols + col;
    for (u32 row = 0; row < a.rows; row += 8) {
        float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        for (u32 k = 0; k < a.inner; k++) {
            float value = to_float(x[(u64)k * a.cols]);
#pragma unroll
            for (u32 j = 0; j < 8; j++)
                if (row + j < a.rows)
                    sums[j] = fma_(at(a.w, (row + j) * a.inner + k), value, sums[j]);
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++)
            if (row + j < a.rows)
                out[(u64)(row + j) * a.cols] = from_float<T>(sums[j]);
    }
}
KERNELS_BOUNDED(mix_rows, MixRows, 256)

// ---------------------------------------------------------------------------------------------------------------------
// Rotations of heads, by angles whose cosines and sines are (tokens, head_dim / 2). Floor: the heads in and out; the
// angles of a token are read from caches by all of its heads but one.

template <typename T> struct Rope {
    T* x;
    Param cos;
    Param sin;
    u32 len;
    u32 heads;
    u32 head_dim;
};

// Turns (a, b) by an angle.
DEVICE void turn(float& a, float& b, float cos, float sin)
{
    float turned = a * cos - b * sin;
    b = a * sin + b * cos;
    a = turned;
}

// Turns N values, which are pairs of one head.
template <u32 N, typename T> DEVICE void turn_neighbours(const Rope<T>& a, u32 i)
{
    u32 head = i / a.head_dim, angle = (head / a.heads * a.head_dim + i - head * a.head_dim) / 2;
    float x[N], cos[N / 2], sin[N / 2];
    load_floats(x, a.x + i);
    load_params(cos, a.cos, angle);
    load_params(sin, a.sin, angle);
#pragma unroll
    for (u32 j = 0; j < N / 2; j++)
        turn(x[2 * j], x[2 * j + 1], cos[j], sin[j]);
    store_floats(a.x + i, x);
}

// Pairs (2k, 2k + 1), a pack of them to a thread.
template <typename T> DEVICE void rope_interleaved(const Rope<T>& a)
{
    constexpr u32 LEN = Pack<T>::LEN;
    u32 i = (BLOCK_X * THREADS + THREAD) * LEN, end = min_(i + LEN, a.len);
    if (a.head_dim % LEN == 0 && i < end)
        return turn_neighbours<LEN>(a, i);
    for (; i < end; i += 2)
        turn_neighbours<2>(a, i);
}
KERNELS_BOUNDED(rope_interleaved, Rope, 256)

// Turns N first values of a head and the N that are half a head behind them; `i` counts first values.
template <u32 N, typename T> DEVICE void turn_halves(const Rope<T>& a, u32 i)
{
    u32 half = a.head_dim / 2, head = i / half, k = i - head * half, angle = head / a.heads * half + k;
    T* place = a.x + (u64)head * a.head_dim + k;
    float first[N], second[N], cos[N], sin[N];
    load_floats(first, place);
    load_floats(second, place + half);
    load_params(cos, a.cos, angle);
    load_params(sin, a.sin, angle);
#pragma unroll
    for (u32 j = 0; j < N; j++)
        turn(first[j], second[j], cos[j], sin[j]);
    store_floats(place, first);
    store_floats(place + half, second);
}

// Pairs (k, k + head_dim / 2), a pack of first ones to a thread.
template <typename T> DEVICE void rope_halves(const Rope<T>& a)
{
    constexpr u32 LEN = Pack<T>::LEN;
    u32 i = (BLOCK_X * THREADS + THREAD) * LEN, end = min_(i + LEN, a.len / 2);
    if (a.head_dim / 2 % LEN == 0 && i < end)
        return turn_halves<LEN>(a, i);
    for (; i < end; i++)
        turn_halves<1>(a, i);
}
KERNELS_BOUNDED(rope_halves, Rope, 256)

template <typename T> struct NormRope {
    T* x;
    Param weight;
    Param cos;
    Param sin;
    u32 len;
    u32 heads;
    u32 head_dim;
    float eps;
};

// Normalizes a head as rms_norm does, then turns its pairs (2k, 2k + 1). A warp has a head, and of 128 values each lane
// holds 4 between the sum and the turn. Heads of other sizes are read twice, pair by pair.
template <typename T> DEVICE void rms_norm_rope(const NormRope<T>& a)
{
    u32 head = BLOCK_X * (THREADS / 32) + WARP;
    if (head >= a.len / a.head_dim)
        return;
    T* x = a.x + (u64)head * a.head_dim;
    u32 angles = head / a.heads * (a.head_dim / 2);
    float scale = 1.0f / (float)a.head_dim;
    if (a.head_dim == 128) {
        float values[4], cos[2], sin[2];
        load_floats(values, x + 4 * LANE);
        load_params(cos, a.cos, angles + 2 * LANE);
        load_params(sin, a.sin, angles + 2 * LANE);
        float squares = 0.0f;
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            squares += values[j] * values[j];
        float factor = rsqrt_(warp_sum(squares) * scale + a.eps);
        multiply_by(values, a.weight, 4 * LANE);
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            values[j] *= factor;
        turn(values[0], values[1], cos[0], sin[0]);
        turn(values[2], values[3], cos[1], sin[1]);
        store_floats(x + 4 * LANE, values);
        return;
    }
    float squares = 0.0f;
    for (u32 k = LANE; k < a.head_dim / 2; k += 32) {
        float pair[2];
        load_floats(pair, x + 2 * k);
        squares += pair[0] * pair[0] + pair[1] * pair[1];
    }
    float factor = rsqrt_(warp_sum(squares) * scale + a.eps);
    for (u32 k = LANE; k < a.head_dim / 2; k += 32) {
        float pair[2];
        load_floats(pair, x + 2 * k);
        multiply_by(pair, a.weight, 2 * k);
        turn(pair[0], pair[1], factor * at(a.cos, angles + k), factor * at(a.sin, angles + k));
        store_floats(x + 2 * k, pair);
    }
}
KERNELS_BOUNDED(rms_norm_rope, NormRope, 256)
