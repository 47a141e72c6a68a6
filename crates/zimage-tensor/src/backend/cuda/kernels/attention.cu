// Attention of heads of 64 or 128 halves, bf16 or f16, by tensor cores, without a matrix of scores in memory: a block
// goes through the keys in tiles, and keeps for each of its queries the largest score so far, the sum of the
// exponentials below it, and the sum of the values that they weigh; when a larger score comes, both sums are scaled
// down.
// Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning".
//
// Floor: 4 * queries * keys * heads * head_dim operations. For 4096 tokens and 30 heads of 128 that is 258 GFLOP, 0.26
// ms at the 990 TFLOP/s that an H100's tensor cores reach by wgmma; by mma.sync, which all generations have, they reach
// about 0.6 of that, so 0.43 ms: attention_hopper.cu is for those that have better. Memory is no limit: q, k, v and out
// are 126 MB, 0.04 ms.
//
// Shape: 128 queries by 4 warps, so that each has 32: every fragment of keys and values that is read from shared memory
// is multiplied twice, and with 16 queries per warp shared memory would be as busy as the tensor cores. The price is
// 128 registers for a lane's sums, so that queries stay in shared memory, and two blocks fill an SM's registers. Keys
// and values have one tile each: while one is multiplied the other arrives, and two tiles of each would take the room
// of the second block. Of 800 instructions of the loop of `attention_128_by_64_bf16` 256 are products.
//
// Shared memory, and registers on sm_80, sm_89, sm_90a and sm_120 by ptxas:
//   attention_128_by_64_bf16   64 KiB   255, 12 to 36 bytes spilled    two blocks on A100, H100, B200 (164 KB and more)
//   attention_128_by_32_bf16   48 KiB   228 to 255                     two blocks where an SM has 100 KB, as on Ada
//   attention_64_by_64_bf16    32 KiB   202 to 218
//   attention_128_by_32_f16    48 KiB   230 to 255, 8 bytes spilled    on Turing 255, 20 bytes spilled, and one block
//   attention_64_by_64_f16     32 KiB   182 to 218
// bf16 is for Ampere and later. On Turing, which has no bf16, tensor cores multiply f16, and so they do where a user
// asks for it; there is one kernel for each head then, which fits all.

// What is stored for elements that are multiplied: halves of less range come from floats and become floats again.
template <typename T> struct Stored {
    using Type = T;
};
template <> struct Stored<f16> {
    using Type = float;
};

template <typename T> struct Flash {
    typename Stored<T>::Type* out;  // (queries, heads, head_dim)
    const T* q;                     // the same
    const T* k;                     // (keys, heads / shared_by, head_dim)
    const T* v;                     // the same
    u32 queries;
    u32 keys;
    u32 heads;
    u32 shared_by;                  // heads of q that share a head of k and v
    u32 causal;                     // whether a query sees no later keys
    float scale;                    // log2(e) / sqrt(head_dim): exponentials are powers of 2
    float unscale;                  // a factor on the output, for values that were scaled
};

constexpr u32 QUERIES = 128;
constexpr u32 FLASH_THREADS = 128;

template <typename T> DEVICE void multiply(float d[4], const u32 a[4], const u32 b[2])
{
    if constexpr (ELEMENT_OF<T> == ELEMENT_OF<bf16>)
        mma_bf16_16816(d, a, b);
    else
        mma_f16_16816(d, a, b);
}

template <typename T> DEVICE u32 pack_halves(float low, float high)
{
    if constexpr (ELEMENT_OF<T> == ELEMENT_OF<bf16>)
        return pack_bf16(low, high);
    else
        return pack_f16(low, high);
}

// Tiles have rows of D values, in chunks of 16 bytes. Chunk c of row r lies at place c ^ (r % 8), so that the same
// chunk of 8 rows, which is what ldmatrix reads at once, lies in 8 different groups of banks. Loads by all threads:
// each has the same chunk of every (threads / chunks)-th row.
template <u32 D, u32 ROWS, typename T>
DEVICE void load_tile(T* tile, const T* from, u32 first, u32 count, u64 stride)
{
    constexpr u32 CHUNKS = D / 8;
    constexpr u32 STEP = FLASH_THREADS / CHUNKS;
    static_assert(STEP % 8 == 0, "a thread's rows have their chunk at the same place");
    const u32 row = THREAD / CHUNKS, chunk = THREAD % CHUNKS;
    T* const to = tile + row * D + (chunk ^ row % 8) * 8;
    const T* source = from + (first + row) * stride + chunk * 8;
#pragma unroll
    for (u32 i = 0; i < ROWS; i += STEP) {
        copy_async_16_or_zero(to + i * D, source, first + row + i < count);
        source += STEP * stride;
    }
}

// s = q k^T for the 32 queries of a warp and a tile of keys.
template <u32 D, u32 KEYS, typename T>
DEVICE void scores(float s[2][KEYS / 8][4], const T* q_tile, const T* k_tile)
{
    // Of queries the lane names row LANE % 16 and the chunk LANE / 16 of a pair; of keys, which are the columns of the
    // right factor, 8 rows with the pair's first chunk, then the same with its second, then 8 more rows.
    const u32 q_at = (WARP * 32 + LANE % 16) * D + (LANE / 16 ^ LANE % 8) * 8;
    const u32 k_at = (LANE / 16 * 8 + LANE % 8) * D + (LANE / 8 % 2 ^ LANE % 8) * 8;
#pragma unroll
    for (u32 m = 0; m < 2; m++)
#pragma unroll
        for (u32 n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (u32 i = 0; i < 4; i++)
                s[m][n][i] = 0.0f;
#pragma unroll
    for (u32 k = 0; k < D / 16; k++) {
        u32 q[2][4];
        ldmatrix_x4(q[0], q_tile + (q_at ^ k * 16));
        ldmatrix_x4(q[1], q_tile + (q_at ^ k * 16) + 16 * D);
#pragma unroll
        for (u32 n = 0; n < KEYS / 16; n++) {
            u32 keys[4];
            ldmatrix_x4(keys, k_tile + (k_at ^ k * 16) + n * 16 * D);
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                multiply<T>(s[m][2 * n], q[m], keys);
                multiply<T>(s[m][2 * n + 1], q[m], keys + 2);
            }
        }
    }
}

// Scores of keys that are not there, or that a query must not see, become -infinity.
template <u32 KEYS>
DEVICE void mask_scores(float s[2][KEYS / 8][4], u32 first_key, u32 keys, u32 first_query, bool causal)
{
    const u32 row = first_query + WARP * 32 + LANE / 4, column = first_key + LANE % 4 * 2;
#pragma unroll
    for (u32 m = 0; m < 2; m++)
#pragma unroll
        for (u32 n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const u32 key = column + n * 8 + i % 2, query = row + m * 16 + i / 2 * 8;
                if (key >= keys || (causal && key > query))
                    s[m][n][i] = float_of(0xff800000u);
            }
}

// Scores become exponentials below `top`, a large score of their query. When a larger one comes, what was summed so far
// is scaled down; but not for less than a factor of 2^8, which all elements have room for: sums change with each tile,
// and to scale them is an eighth of all instructions. The four lanes that share a query have the same `top`, and each
// the `sum` of its own columns. Every tile but the first may be masked for a query as a whole, the first never is, so
// that `top` is finite from then on.
template <u32 D, u32 KEYS>
DEVICE void exponentials(float s[2][KEYS / 8][4], float out[2][D / 8][4], float top[2][2], float sum[2][2], float scale)
{
#pragma unroll
    for (u32 m = 0; m < 2; m++)
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float largest = s[m][0][2 * half];
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++)
                largest = max_(largest, max_(s[m][n][2 * half], s[m][n][2 * half + 1]));
            largest = max_(largest, shuffle_xor(largest, 1));
            largest = max_(largest, shuffle_xor(largest, 2));
            if ((largest - top[m][half]) * scale > 8.0f) {
                const float factor = fast_exp2((top[m][half] - largest) * scale);
                top[m][half] = largest;
                sum[m][half] *= factor;
#pragma unroll
                for (u32 n = 0; n < D / 8; n++) {
                    out[m][n][2 * half] *= factor;
                    out[m][n][2 * half + 1] *= factor;
                }
            }
            const float below = top[m][half] * scale;
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (u32 i = 2 * half; i < 2 * half + 2; i++) {
                    s[m][n][i] = fast_exp2(fma_(s[m][n][i], scale, -below));
                    sum[m][half] += s[m][n][i];
                }
        }
}

// out += s v. Where a lane has the sums of the first product, there it needs the left factor of the second.
template <u32 D, u32 KEYS, typename T>
DEVICE void weigh_values(float out[2][D / 8][4], const float s[2][KEYS / 8][4], const T* v_tile)
{
    const u32 v_at = LANE % 16 * D + (LANE / 16 ^ LANE % 8) * 8;
#pragma unroll
    for (u32 k = 0; k < KEYS / 16; k++) {
        u32 weights[2][4];
#pragma unroll
        for (u32 m = 0; m < 2; m++)
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const float* pair = s[m][2 * k + i / 2] + i % 2 * 2;
                weights[m][i] = pack_halves<T>(pair[0], pair[1]);
            }
#pragma unroll
        for (u32 n = 0; n < D / 16; n++) {
            u32 values[4];
            ldmatrix_x4_trans(values, v_tile + (v_at ^ n * 16) + k * 16 * D);
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                multiply<T>(out[m][2 * n], weights[m], values);
                multiply<T>(out[m][2 * n + 1], weights[m], values + 2);
            }
        }
    }
}

// Divides by the sums, and stores: floats as they lie, since four lanes have 32 bytes of a row; halves through the rows
// of the tile of queries that only this warp has read, such that a lane stores 16 bytes.
template <u32 D, typename T>
DEVICE void store_queries(
    const Flash<T>& a, T* tile, const float out[2][D / 8][4], const float sum[2][2], u32 first, u32 head)
{
    constexpr bool FLOATS = ELEMENT_OF<typename Stored<T>::Type> == ELEMENT_OF<float>;
    constexpr u32 CHUNKS = D / 8;
#pragma unroll
    for (u32 m = 0; m < 2; m++)
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float total = sum[m][half];
            total += shuffle_xor(total, 1);
            total += shuffle_xor(total, 2);
            const float inverse = a.unscale / total;
            const u32 row = WARP * 32 + m * 16 + half * 8 + LANE / 4, column = LANE % 4 * 2;
#pragma unroll
            for (u32 n = 0; n < CHUNKS; n++) {
                const float low = out[m][n][2 * half] * inverse, high = out[m][n][2 * half + 1] * inverse;
                if constexpr (!FLOATS)
                    *reinterpret_cast<u32*>(tile + row * D + (n ^ row % 8) * 8 + column) = pack_halves<T>(low, high);
                else if (first + row < a.queries)
                    store_floats(a.out + ((u64)(first + row) * a.heads + head) * D + n * 8 + column, {low, high});
            }
        }
    if constexpr (!FLOATS) {
        sync_warp();
#pragma unroll
        for (u32 i = LANE; i < 32 * CHUNKS; i += 32) {
            const u32 row = WARP * 32 + i / CHUNKS, chunk = i % CHUNKS;
            if (first + row < a.queries) {
                T* const to = a.out + ((u64)(first + row) * a.heads + head) * D + chunk * 8;
                store_pack(to, load_pack(tile + row * D + (chunk ^ row % 8) * 8));
            }
        }
    }
}

// A block has 128 queries of a head. Heads are the second direction of the grid, so that blocks that run at the same
// time read the same keys. With a causal mask later queries see more keys, and begin first.
template <u32 D, u32 KEYS, typename T> DEVICE void flash(const Flash<T>& a)
{
    DYNAMIC_SHARED(T, q_tile);
    T* const k_tile = q_tile + QUERIES * D;
    T* const v_tile = k_tile + KEYS * D;
    const bool causal = a.causal != 0;
    const u32 first = (causal ? GRID_X - 1 - BLOCK_X : BLOCK_X) * QUERIES, head = BLOCK_Y;
    const u64 q_stride = a.heads * D, kv_stride = a.heads / a.shared_by * D;
    const T* const k = a.k + head / a.shared_by * D;
    const T* const v = a.v + head / a.shared_by * D;
    const u32 keys = causal ? min_(a.keys, first + QUERIES) : a.keys;

    load_tile<D, QUERIES>(q_tile, a.q + head * D, first, a.queries, q_stride);
    load_tile<D, KEYS>(k_tile, k, 0, keys, kv_stride);
    copy_async_commit();
    float out[2][D / 8][4] = {};
    float top[2][2], sum[2][2] = {};
    top[0][0] = top[0][1] = top[1][0] = top[1][1] = float_of(0xff800000u);
    for (u32 key = 0; key < keys; key += KEYS) {
        copy_async_wait<0>();
        sync_threads();  // the keys are there, and nobody reads the last tile of values
        load_tile<D, KEYS>(v_tile, v, key, keys, kv_stride);
        copy_async_commit();
        float s[2][KEYS / 8][4];
        scores<D, KEYS>(s, q_tile, k_tile);
        copy_async_wait<0>();
        sync_threads();  // the values are there, and nobody reads these keys
        if (key + KEYS < keys)
            load_tile<D, KEYS>(k_tile, k, key + KEYS, keys, kv_stride);
        copy_async_commit();
        if (key + KEYS > keys || (causal && key + KEYS > first + WARP * 32))
            mask_scores<KEYS>(s, key, keys, first, causal);
        exponentials<D, KEYS>(s, out, top, sum, a.scale);
        sync_warp();  // lanes have scaled or not
        weigh_values<D, KEYS>(out, s, v_tile);
    }
    store_queries<D>(a, q_tile, out, sum, first, head);
}

#define FLASH(name, T, D, KEYS)          \
    DEVICE void name(const Flash<T>& a) \
    {                                    \
        flash<D, KEYS>(a);               \
    }                                    \
    KERNEL_BOUNDED(name, Flash<T>, FLASH_THREADS)

FLASH(attention_128_by_64_bf16, bf16, 128, 64)
FLASH(attention_128_by_32_bf16, bf16, 128, 32)
FLASH(attention_64_by_64_bf16, bf16, 64, 64)
FLASH(attention_128_by_32_f16, f16, 128, 32)
FLASH(attention_64_by_64_f16, f16, 64, 64)

struct ToHalves {
    f16* out;
    const float* x;
    u32 count;     // a multiple of 4
    float factor;
};

// out = factor * x, four values per thread. Floor: 6 bytes per value, 94 MB for 4096 tokens and 30 heads: 0.3 ms at the
// 320 GB/s of a T4, beside 8 ms for the products.
DEVICE void to_halves(const ToHalves& a)
{
    const u32 i = (BLOCK_X * 256 + THREAD) * 4;
    if (i >= a.count)
        return;
    float values[4];
    load_floats(values, a.x + i);
#pragma unroll
    for (u32 j = 0; j < 4; j++)
        values[j] *= a.factor;
    store_floats(a.out + i, values);
}
KERNEL_BOUNDED(to_halves, ToHalves, 256)
