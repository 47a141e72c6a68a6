// Attention of heads of 128 in bf16 by Hopper's products of warpgroups, whose factors come from shared memory without a
// detour through registers. What is summed, and when sums are scaled down, is as in attention.cu.
// Source: Shah et al., "FlashAttention-3: Fast and Accurate Attention with Asynchrony and Low-precision": products of
// one tile go on while the exponentials of the next are computed. Copies are those of Ampere.
//
// Floor: 4 * queries * keys * heads * head_dim operations, 0.26 ms at 990 TFLOP/s for 4096 tokens and 30 heads. For a
// tile of 128 by 128 the tensor cores of a multiprocessor take 2048 cycles and its special function units 1024 for the
// exponentials, and all instructions of a turn of the loop but the products, about 460, another 920 to be issued: one
// after the other that would be 0.39 ms or more. Memory is no limit, as in attention.cu.
//
// Shape: 128 queries by 2 warpgroups, 128 keys in a tile. Of keys and values there are two tiles each, so that the
// next ones have the time of a whole tile to arrive, and one barrier per tile is enough: 161 KiB of shared memory and
// one block on a multiprocessor. A thread has 64 sums, 64 scores and 32 registers of weights: 216 registers by ptxas of
// CUDA 13.5, 211 by that of 12.4, nothing spilled. Both leave the products of a group without waits between them, and
// wait for the weighed values behind the exponentials.

struct Heads {
    bf16* out;      // (queries, heads, 128)
    const bf16* q;  // the same
    const bf16* k;  // (keys, heads / shared_by, 128)
    const bf16* v;  // the same
    u32 queries;
    u32 keys;
    u32 heads;
    u32 shared_by;  // heads of q that share a head of k and v
    u32 causal;     // whether a query sees no later keys
    float scale;    // log2(e) / sqrt(128): exponentials are powers of 2
    float unscale;  // a factor on the output, as in attention.cu
};

constexpr u32 D = 128;
constexpr u32 QUERIES = 128;
constexpr u32 KEYS = 128;
constexpr u32 HOPPER_THREADS = 256;

// Tiles have 128 rows of a head, as two halves: of each row 64 values, which are 128 bytes or 8 chunks of 16. Chunk c
// of row r lies at c ^ (r % 8), as the products want it.
constexpr u32 TILE = 128 * D;
constexpr u32 HALF = 128 * 64;
constexpr u32 HALF_BYTES = HALF * 2;
constexpr u32 EIGHT_ROWS = 8 * 128;

DEVICE bf16* chunk_of(bf16* tile, u32 row, u32 chunk)
{
    return tile + chunk / 8 * HALF + row * 64 + (chunk % 8 ^ row % 8) * 8;
}

// Loads by all threads: each has the same chunk of every 16th row.
DEVICE void load_tile(bf16* tile, const bf16* from, u32 first, u32 count, u64 stride)
{
    constexpr u32 STEP = HOPPER_THREADS / 16;
    static_assert(STEP % 8 == 0, "a thread's rows have their chunk at the same place");
    const u32 row = THREAD / 16, chunk = THREAD % 16;
    bf16* const to = chunk_of(tile, row, chunk);
    const bf16* source = from + (first + row) * stride + chunk * 8;
#pragma unroll
    for (u32 i = 0; i < 128; i += STEP) {
        copy_async_16_or_zero(to + i * 64, source, first + row + i < count);
        source += STEP * stride;
    }
}

// All copies so far have arrived, and products may read them; and all threads are done with what they waited for.
DEVICE void arrive()
{
    copy_async_wait<0>();
    fence_copies();
    sync_threads();
}

// s = q k^T for the 64 queries of a warpgroup and a tile of keys, as one group.
DEVICE void start_scores(float (&s)[64], const bf16* q_tile, const bf16* k_tile)
{
    const u64 q = factor_at(q_tile + THREAD / 128 * 64 * 64, 16, EIGHT_ROWS);
    const u64 k = factor_at(k_tile, 16, EIGHT_ROWS);
    fence_sums(s);
#pragma unroll
    for (u32 i = 0; i < D / 16; i++) {
        const u32 bytes = i / 4 * HALF_BYTES + i % 4 * 32;
        product_64x128(s, further(q, bytes), further(k, bytes), i > 0);
    }
    commit_products();
}

// out += weights v for a tile of values, as one group.
DEVICE void start_weighing(float (&out)[64], const u32 (&weights)[32], const bf16* v_tile)
{
    const u64 v = factor_at(v_tile, HALF_BYTES, EIGHT_ROWS);
    fence_sums(out);
#pragma unroll
    for (u32 i = 0; i < KEYS / 16; i++)
        product_64x128(out, weights + 4 * i, further(v, i * 2 * EIGHT_ROWS));
    commit_products();
}

// Scores of keys that are not there, or that a query must not see, become -infinity.
DEVICE void mask_scores(float (&s)[64], u32 first_key, u32 keys, u32 first_query, bool causal)
{
    const u32 row = first_query + WARP * 16 + LANE / 4, column = first_key + LANE % 4 * 2;
#pragma unroll
    for (u32 i = 0; i < 64; i++) {
        const u32 key = column + i / 4 * 8 + i % 2, query = row + i % 4 / 2 * 8;
        if (key >= keys || (causal && key > query))
            s[i] = float_of(0xff800000u);
    }
}

// A lane's two queries, `half` 0 and 1, which it shares with three others.
struct Softmax {
    float top[2];     // a large score so far, the same in the four lanes
    float sum[2];     // of the exponentials below it of a lane's own columns
    float factor[2];  // what sums of values are to be scaled down by
};

// Scores become exponentials below `top`, which only follows a score that is larger by a factor of 2^8, as in
// attention.cu: `factor` is 1 for most tiles. In each tile a query sees a key, so that `top` is finite.
DEVICE void exponentials(float (&s)[64], Softmax& softmax, float scale)
{
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        float largest = s[2 * half];
#pragma unroll
        for (u32 i = 2 * half; i < 64; i += 4)
            largest = max_(largest, max_(s[i], s[i + 1]));
        largest = max_(largest, shuffle_xor(largest, 1));
        largest = max_(largest, shuffle_xor(largest, 2));
        const float before = softmax.top[half];
        const bool rises = (largest - before) * scale > 8.0f;
        const float top = rises ? largest : before;
        softmax.factor[half] = rises ? fast_exp2((before - largest) * scale) : 1.0f;
        softmax.top[half] = top;
        const float below = top * scale;
        float sum = softmax.sum[half] * softmax.factor[half];
#pragma unroll
        for (u32 i = 2 * half; i < 64; i += 4)
#pragma unroll
            for (u32 j = i; j < i + 2; j++) {
                s[j] = fast_exp2(fma_(s[j], scale, -below));
                sum += s[j];
            }
        softmax.sum[half] = sum;
    }
}

DEVICE void scale_down(float (&out)[64], const float (&factor)[2])
{
#pragma unroll
    for (u32 half = 0; half < 2; half++)
        if (factor[half] != 1.0f)
#pragma unroll
            for (u32 i = 2 * half; i < 64; i += 4) {
                out[i] *= factor[half];
                out[i + 1] *= factor[half];
            }
    sync_warp();  // lanes have scaled or not
}

// Where a lane has the sums of the first product, there it needs the left factor of the second.
DEVICE void pack_weights(u32 (&weights)[32], const float (&s)[64])
{
#pragma unroll
    for (u32 i = 0; i < 32; i++)
        weights[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

// Divides by the sums, and stores through rows of a tile that only this warp uses, such that a lane stores 16 bytes.
DEVICE void store_queries(
    const Heads& a, bf16* tile, const float (&out)[64], const float (&sums)[2], u32 first, u32 head)
{
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        float sum = sums[half];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const float inverse = a.unscale / sum;
        const u32 row = WARP * 16 + half * 8 + LANE / 4;
#pragma unroll
        for (u32 chunk = 0; chunk < D / 8; chunk++) {
            const u32 i = 4 * chunk + 2 * half;
            u32* const to = reinterpret_cast<u32*>(chunk_of(tile, row, chunk));
            to[LANE % 4] = pack_bf16(out[i] * inverse, out[i + 1] * inverse);
        }
    }
    sync_warp();
#pragma unroll
    for (u32 i = LANE; i < 16 * D / 8; i += 32) {
        const u32 row = WARP * 16 + i / 16, chunk = i % 16;
        if (first + row < a.queries) {
            bf16* const to = a.out + ((u64)(first + row) * a.heads + head) * D + chunk * 8;
            store_pack(to, load_pack(chunk_of(tile, row, chunk)));
        }
    }
}

// A block has 128 queries of a head; the order of blocks is as in attention.cu. In each turn of the loop the scores of
// a tile and the values of the tile before are multiplied, and exponentials are computed as soon as the scores are
// there.
DEVICE void attention_128_hopper(const Heads& a)
{
    DYNAMIC_SHARED(u8, bytes);
    // Tiles begin at multiples of 1024 bytes.
    bf16* const q_tile = reinterpret_cast<bf16*>(bytes + (1024 - shared_address(bytes) % 1024) % 1024);
    bf16* const k_tiles = q_tile + TILE;
    bf16* const v_tiles = k_tiles + 2 * TILE;
    const bool causal = a.causal != 0;
    const u32 first = (causal ? GRID_X - 1 - BLOCK_X : BLOCK_X) * QUERIES, head = BLOCK_Y;
    const u64 q_stride = a.heads * D, kv_stride = a.heads / a.shared_by * D;
    const bf16* const k = a.k + head / a.shared_by * D;
    const bf16* const v = a.v + head / a.shared_by * D;
    const u32 keys = causal ? min_(a.keys, first + QUERIES) : a.keys;
    const u32 first_of_warp = first + WARP * 16;

    float s[64], out[64] = {};
    u32 weights[32];
    const float none = float_of(0xff800000u);
    Softmax softmax = {{none, none}, {0.0f, 0.0f}, {1.0f, 1.0f}};
    load_tile(q_tile, a.q + head * D, first, a.queries, q_stride);
    load_tile(k_tiles, k, 0, keys, kv_stride);
    copy_async_commit();
    arrive();
    start_scores(s, q_tile, k_tiles);
    load_tile(v_tiles, v, 0, keys, kv_stride);
    if (KEYS < keys)
        load_tile(k_tiles + TILE, k, KEYS, keys, kv_stride);
    copy_async_commit();
    wait_for_products<0>(s);
    if (KEYS > keys || (causal && KEYS > first_of_warp))
        mask_scores(s, 0, keys, first, causal);
    exponentials(s, softmax, a.scale);
    pack_weights(weights, s);
    u32 at = TILE, before = 0;  // of this tile of keys, and of the last one's values
    for (u32 key = KEYS; key < keys; key += KEYS) {
        arrive();
        start_scores(s, q_tile, k_tiles + at);
        start_weighing(out, weights, v_tiles + before);
        load_tile(v_tiles + at, v, key, keys, kv_stride);
        if (key + KEYS < keys)
            load_tile(k_tiles + before, k, key + KEYS, keys, kv_stride);
        copy_async_commit();
        wait_for_products<1>(s);
        if (key + KEYS > keys || (causal && key + KEYS > first_of_warp))
            mask_scores(s, key, keys, first, causal);
        exponentials(s, softmax, a.scale);
        compute_before(softmax.sum[0] + softmax.sum[1]);  // while the values are weighed
        wait_for_products<0>(out);
        scale_down(out, softmax.factor);
        pack_weights(weights, s);
        before = at;
        at = TILE - at;
    }
    arrive();
    start_weighing(out, weights, v_tiles + before);
    wait_for_products<0>(out);
    store_queries(a, q_tile, out, softmax.sum, first, head);
}
KERNEL_BOUNDED(attention_128_hopper, Heads, HOPPER_THREADS)
