// Attention where tensor cores have no kernel of their own: in f32 for heads of any length, and the softmax between two
// products of matrices for the long heads of the VAE.

// ---------------------------------------------------------------------------------------------------------------------
// Any head, in f32 arithmetic, without a matrix of scores in memory.

template <typename T> struct Tiled {
    T* out;          // (queries, heads, head_dim)
    const T* q;      // the same
    const T* k;      // (keys, heads / shared_by, head_dim)
    const T* v;      // the same
    u32 queries;
    u32 keys;
    u32 heads;
    u32 shared_by;   // heads of q that share a head of k and v
    u32 head_dim;
    u32 causal;      // whether a query sees no later keys
    float scale;     // log2(e) / sqrt(head_dim): exponentials are powers of 2
};

constexpr u32 TILE = 64;        // queries of a block, and keys of a tile
constexpr u32 DEPTH = 32;       // values of a head, or keys, that are multiplied between two barriers
constexpr u32 COLUMNS = 128;    // values of a head that a block sums
constexpr u32 ACROSS = TILE + 4;  // a row of 4-byte values, such that writes down a column meet 8 groups of banks

// (DEPTH, TILE) of a matrix whose rows go along the tile: tile[d][i] = x[first + i][from + d], zero outside.
template <typename T>
DEVICE void load_transposed(float* tile, const T* x, u64 stride, u32 first, u32 rows, u32 from, u32 columns)
{
    for (u32 i = THREAD; i < DEPTH * TILE; i += 256) {
        const u32 row = i / DEPTH, d = i % DEPTH;
        const bool valid = first + row < rows && from + d < columns;
        tile[d * ACROSS + row] = valid ? to_float(x[(first + row) * stride + from + d]) : 0.0f;
    }
}

// (DEPTH, COLUMNS) of a matrix as it lies.
template <typename T>
DEVICE void load_straight(float* tile, const T* x, u64 stride, u32 first, u32 rows, u32 from, u32 columns)
{
    for (u32 i = THREAD; i < DEPTH * COLUMNS; i += 256) {
        const u32 row = i / COLUMNS, c = i % COLUMNS;
        const bool valid = first + row < rows && from + c < columns;
        tile[i] = valid ? to_float(x[(first + row) * stride + from + c]) : 0.0f;
    }
}

// s = q k^T for 4 queries and 4 keys of each thread. `q` and `k` are those of the block's head.
template <typename T>
DEVICE void tiled_scores(const Tiled<T>& a, float s[4][4], float* shared, const T* q, const T* k, u32 query, u32 key)
{
    const u32 row = THREAD / 16 * 4, column = THREAD % 16 * 4;
    float *const q_tile = shared, *const k_tile = shared + DEPTH * ACROSS;
#pragma unroll
    for (u32 i = 0; i < 16; i++)
        s[i / 4][i % 4] = 0.0f;
    for (u32 from = 0; from < a.head_dim; from += DEPTH) {
        sync_threads();
        load_transposed(q_tile, q, (u64)a.heads * a.head_dim, query, a.queries, from, a.head_dim);
        load_transposed(k_tile, k, (u64)(a.heads / a.shared_by) * a.head_dim, key, a.keys, from, a.head_dim);
        sync_threads();
        for (u32 d = 0; d < DEPTH; d++) {
            const Pack<float> left = load_pack(q_tile + d * ACROSS + row);
            const Pack<float> right = load_pack(k_tile + d * ACROSS + column);
#pragma unroll
            for (u32 i = 0; i < 16; i++)
                s[i / 4][i % 4] = fma_(left.values[i / 4], right.values[i % 4], s[i / 4][i % 4]);
        }
    }
#pragma unroll
    for (u32 i = 0; i < 16; i++) {
        const u32 at = key + column + i % 4;
        if (at >= a.keys || (a.causal != 0 && at > query + row + i / 4))
            s[i / 4][i % 4] = float_of(0xff800000u);
    }
}

// out += p v for 4 queries and 8 columns of each thread.
template <typename T>
DEVICE void tiled_values(
    const Tiled<T>& a, float out[4][8], float* shared, const float* p_tile, const T* v, u32 key, u32 from)
{
    const u32 row = THREAD / 16 * 4, column = THREAD % 16 * 4;
    for (u32 first = 0; first < TILE; first += DEPTH) {
        sync_threads();
        load_straight(shared, v, (u64)(a.heads / a.shared_by) * a.head_dim, key + first, a.keys, from, a.head_dim);
        sync_threads();
        for (u32 d = 0; d < DEPTH; d++) {
            const Pack<float> p = load_pack(p_tile + (first + d) * ACROSS + row);
            const Pack<float> low = load_pack(shared + d * COLUMNS + column);
            const Pack<float> high = load_pack(shared + d * COLUMNS + 64 + column);
#pragma unroll
            for (u32 i = 0; i < 16; i++) {
                out[i / 4][i % 4] = fma_(p.values[i / 4], low.values[i % 4], out[i / 4][i % 4]);
                out[i / 4][4 + i % 4] = fma_(p.values[i / 4], high.values[i % 4], out[i / 4][4 + i % 4]);
            }
        }
    }
}

// A block has 64 queries of a head and 128 of the columns of its output, a thread 4 by 8 of them; queries go through
// keys as in attention.cu. Longer heads take more blocks, each of which computes all scores.
//
// Floor: 4 * queries * keys * heads * head_dim operations at 67 TFLOP/s of f32 on an H100, 3.9 ms for 4096 tokens and
// 30 heads of 128. Shared memory is the limit before: it gives a warp's 16 products in no less time than 4 warps take
// for them, so half of that at most. This is for exactness, and for heads of lengths that no model has. Shared memory:
// 34 KiB; 95 to 111 registers.
template <typename T> DEVICE void attention_tiled(const Tiled<T>& a)
{
    SHARED Pack<float> tiles[2 * DEPTH * ACROSS / 4];    // queries and keys, or values
    SHARED Pack<float> weights[TILE * ACROSS / 4];       // (key, query)
    static_assert(DEPTH * COLUMNS <= 2 * DEPTH * ACROSS, "values lie where queries and keys lay");
    float *const shared = tiles[0].values, *const p_tile = weights[0].values;
    const u32 query = BLOCK_X * TILE, head = BLOCK_Y, from = BLOCK_Z * COLUMNS;
    const u32 row = THREAD / 16 * 4, column = THREAD % 16 * 4;
    const u32 keys = a.causal != 0 ? min_(a.keys, query + TILE) : a.keys;
    const T* const q = a.q + (u64)head * a.head_dim;
    const T* const k = a.k + (u64)(head / a.shared_by) * a.head_dim;
    const T* const v = a.v + (u64)(head / a.shared_by) * a.head_dim;
    float out[4][8] = {}, top[4], sum[4] = {};
    top[0] = top[1] = top[2] = top[3] = float_of(0xff800000u);

    for (u32 key = 0; key < keys; key += TILE) {
        float s[4][4];
        tiled_scores(a, s, shared, q, k, query, key);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            float largest = max_(max_(s[i][0], s[i][1]), max_(s[i][2], s[i][3]));
#pragma unroll
            for (u32 mask = 1; mask < 16; mask *= 2)  // the 16 threads of a query
                largest = max_(largest, shuffle_xor(largest, mask));
            largest = max_(largest, top[i]);
            const float factor = exp2_((top[i] - largest) * a.scale);
            top[i] = largest;
            sum[i] *= factor;
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                s[i][j] = exp2_((s[i][j] - largest) * a.scale);
                sum[i] += s[i][j];
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++)
                out[i][j] *= factor;
        }
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            store_floats(p_tile + (column + j) * ACROSS + row, {s[0][j], s[1][j], s[2][j], s[3][j]});
        tiled_values(a, out, shared, p_tile, v, key, from);
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 mask = 1; mask < 16; mask *= 2)
            sum[i] += shuffle_xor(sum[i], mask);
        const float inverse = 1.0f / sum[i];
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const u32 at = from + j / 4 * 64 + column + j % 4;
            if (query + row + i < a.queries && at < a.head_dim)
                a.out[((u64)(query + row + i) * a.heads + head) * a.head_dim + at] = from_float<T>(out[i][j] * inverse);
        }
    }
}
KERNELS_BOUNDED(attention_tiled, Tiled, 256)

// ---------------------------------------------------------------------------------------------------------------------
// Rows of scores become rows of probabilities, in place: a probability lies at the front of the memory of its row.

template <typename T> struct SoftmaxRows {
    float* scores;   // (rows, stride); afterwards elements T, of which a row has stride * 4 / sizeof(T)
    u32 keys;        // values of a row
    u32 stride;      // at least `keys`, a multiple of 4
    u32 first;       // the first row's query
    u32 causal;      // whether a query sees no later keys
};

// A block per row, which is read twice and written once: 10 bytes per score in bf16, of which the second 4 mostly come
// from the L2 cache. Floor, for 16384 queries and keys: 1.6 GB in 0.48 ms at 3.35 TB/s, beside 0.55 ms for the
// products. In place: where the block writes, it has read, by the barrier before. 24 to 56 registers.
template <typename T> DEVICE void softmax_rows(const SoftmaxRows<T>& a)
{
    constexpr float LOG2_E = 1.44269504088896341f;
    float* const row = a.scores + (u64)BLOCK_X * a.stride;
    T* const out = reinterpret_cast<T*>(row);
    const u32 seen = a.causal != 0 ? min_(a.keys, a.first + BLOCK_X + 1) : a.keys;
    float top = float_of(0xff800000u), sum = 0.0f;
    for (u32 i = THREAD * 4; i < seen; i += THREADS * 4) {
        const Pack<float> pack = load_pack(row + i);
        float largest = top;
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            largest = i + j < seen ? max_(largest, pack.values[j]) : largest;
        sum *= exp2_((top - largest) * LOG2_E);
        top = largest;
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            sum += i + j < seen ? exp2_((pack.values[j] - top) * LOG2_E) : 0.0f;
    }
    const float largest = block_max(top);
    const float inverse = 1.0f / block_sum(sum * exp2_((top - largest) * LOG2_E));
    for (u32 start = 0; start < a.keys; start += THREADS * 4) {
        const u32 i = start + THREAD * 4;
        Pack<float> pack = {};
        if (i < seen)
            pack = load_pack(row + i);
        sync_threads();
#pragma unroll
        for (u32 j = 0; j < 4; j++)
            pack.values[j] = i + j < seen ? exp2_((pack.values[j] - largest) * LOG2_E) * inverse : 0.0f;
        if (i + 4 <= a.keys)
            store_floats(out + i, pack.values);
        else
            for (u32 j = 0; i + j < a.keys; j++)
                out[i + j] = from_float<T>(pack.values[j]);
    }
}
KERNELS_BOUNDED(softmax_rows, SoftmaxRows, 256)
