// Products with weights that stay as their file has them: each value is decoded where it is multiplied, so that a weight
// crosses memory once, in the bytes that it is stored in. For few rows: with many, decoding is repeated more often than
// what it saves, and `linear/fused.rs` has the weight widened.

// ---------------------------------------------------------------------------------------------------------------------
// One row or a few, in f32 arithmetic.

struct MultiplyRows {
    Stored w;
    Param x;      // (rows, w.cols), in f32 or bf16; w.cols is a multiple of 8
    Param bias;   // (w.rows); none where its data is null
    void* out;    // (rows, w.rows)
    u32 rows;
    u32 element;  // of the result: f32 or bf16
};

constexpr u32 AT_ONCE = 4;  // rows of x of a block

// What a lane has of the sums for a column of the result. It decodes eight neighbouring values of the weight's row at a
// time, and multiplies them with as many of each row of x.
template <typename Format, typename T>
DEVICE void sum_rows(const MultiplyRows& a, float sums[AT_ONCE], u32 first, u32 column)
{
    const u32 rows = min_(a.rows - first, AT_ONCE), cols = a.w.cols;
    const T* const x = static_cast<const T*>(a.x.data) + (u64)first * cols;
#pragma unroll 1
    for (u32 col = LANE * 8; col < cols; col += 256) {
        float v[8];
        Format::eight(a.w, column, col, 8, v);
#pragma unroll
        for (u32 row = 0; row < AT_ONCE; row++) {
            if (row >= rows)
                continue;
            float factors[8];
            load_floats(factors, x + (u64)row * cols + col);
#pragma unroll
            for (u32 k = 0; k < 8; k++)
                sums[row] = fma_(v[k], factors[k], sums[row]);
        }
    }
}

// A warp has a column of the result, and four rows of it. More rows are served by more blocks, which decode again; x comes
// out of the nearest cache.
//
// Floor: the weight's bytes. The modulations of a block, 15360 columns of 256 values in 4 bits, are 2 MB, 1 us at 2.5
// TB/s, less than it takes to launch a kernel. Per eight values there are about 50 instructions to decode, and 8 for each
// row. 40 to 64 registers.
template <typename Format> DEVICE void multiply_rows(const MultiplyRows& a)
{
    const u32 column = BLOCK_X * (THREADS / 32) + WARP, first = BLOCK_Y * AT_ONCE;
    if (column >= a.w.rows)
        return;
    float sums[AT_ONCE] = {};
    if (a.x.element == ELEMENT_OF<bf16>)
        sum_rows<Format, bf16>(a, sums, first, column);
    else
        sum_rows<Format, float>(a, sums, first, column);
    const float bias = a.bias.data ? at(a.bias, column) : 0.0f;
#pragma unroll
    for (u32 row = 0; row < AT_ONCE; row++) {
        const float sum = warp_sum(sums[row]) + bias;
        if (LANE != 0 || first + row >= a.rows)
            continue;
        const u64 place = (u64)(first + row) * a.w.rows + column;
        if (a.element == ELEMENT_OF<bf16>)
            static_cast<bf16*>(a.out)[place] = to_bf16(sum);
        else
            static_cast<float*>(a.out)[place] = sum;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// More rows, by tensor cores: the weight is decoded into tiles of bf16 in shared memory.

struct MultiplyTiles {
    Stored w;
    const bf16* x;  // (rows, w.cols); w.cols is a multiple of 8
    Param bias;     // (w.rows); none where its data is null
    bf16* out;      // (rows, w.rows)
    float* sums;    // (splits, rows, w.rows), which are to be added up; null where there is one split: it writes `out`
    u32 rows;
    u32 depth;      // columns of the weight that a split has; a multiple of DEPTH
};

constexpr u32 TILE_ROWS = 64;      // rows of x of a block
constexpr u32 TILE_COLUMNS = 128;  // columns of the result of a block, which are rows of the weight: 16 for each warp
constexpr u32 DEPTH = 256;         // columns of x and of the weight between two barriers: a warp decodes them at once
constexpr u32 TILE_THREADS = 256;

// Tiles have rows of DEPTH values, in chunks of 16 bytes. Chunk c of row r lies at place c ^ (r % 8), so that the same
// chunk of 8 rows, which is what ldmatrix reads at once, lies in 8 different groups of banks. A lane has a chunk of each
// row that its warp has.
DEVICE bf16* chunk_of(bf16* tile, u32 row)
{
    return tile + row * DEPTH + (LANE ^ row % 8) * 8;
}

// Brings what the warp will decode into the L2 cache, so that the loads of one tile, which a warp has one or two of at a
// time, wait for that and not for memory. Two lanes have a row of the weight, in steps of 128 columns: 128 bytes or less.
DEVICE void prefetch_weights(const Stored& w, u32 first, u32 from, u32 to)
{
    const u32 row = first + LANE / 2;
    if (row >= w.rows)
        return;
#pragma unroll 1
    for (u32 col = from + LANE % 2 * 128; col < to; col += 256) {
        prefetch_l2(w.values + (u64)row * w.row_bytes + col / 8 * w.row_bytes / (w.cols / 8));
        const u64 line = scale_place(w, row, col) * (w.scale_type == 0 ? 4 : w.scale_type < 3 ? 2 : 1);
        if (w.scales)
            prefetch_l2(w.scales + line);
        if (w.biases)
            prefetch_l2(w.biases + line);
    }
}

// The first so many rows of a tile of x; zeros where x has none.
DEVICE void load_x(const MultiplyTiles& a, bf16* tile, u32 first, u32 count, u32 from)
{
    const u32 col = from + LANE * 8;
    for (u32 row = WARP; row < count; row += TILE_THREADS / 32) {
        const bool valid = first + row < a.rows && col < a.w.cols;
        const u64 place = valid ? (u64)(first + row) * a.w.cols + col : 0;
        copy_async_16_or_zero(chunk_of(tile, row), a.x + place, valid);
    }
}

// The 16 rows of the weight that the warp has. Whole warps decode a row, which is what a rotated one needs.
template <typename Format> DEVICE void decode_tile(const Stored& w, bf16* tile, u32 first, u32 from)
{
    const u32 col = from + LANE * 8;
#pragma unroll 2
    for (u32 row = 0; row < 16; row++) {
        Pack<u32> pack = {};
        if (first + row < w.rows && col < w.cols) {
            float v[8];
            Format::eight(w, first + row, col, 8, v);
#pragma unroll
            for (u32 k = 0; k < 4; k++)
                pack.values[k] = pack_bf16(v[2 * k], v[2 * k + 1]);
        }
        store_pack(reinterpret_cast<u32*>(chunk_of(tile, row)), pack);
    }
}

// sums += x w^T for 16 columns of the result; of x the first so many groups of 16 rows.
DEVICE void multiply_tile(float sums[TILE_ROWS / 16][2][4], const bf16* x_tile, const bf16* w_tile, u32 groups)
{
    // Of x the lane names row LANE % 16 and the chunk LANE / 16 of a pair; of the weight, which is the right factor, 8
    // rows with the pair's first chunk, then the same with its second, then 8 more rows.
    const u32 x_at = LANE % 16 * DEPTH + (LANE / 16 ^ LANE % 8) * 8;
    const u32 w_at = (LANE / 16 * 8 + LANE % 8) * DEPTH + (LANE / 8 % 2 ^ LANE % 8) * 8;
#pragma unroll 2
    for (u32 k = 0; k < DEPTH; k += 16) {
        u32 w[4];
        ldmatrix_x4(w, w_tile + (w_at ^ k));
#pragma unroll
        for (u32 i = 0; i < TILE_ROWS / 16; i++) {
            if (i >= groups)
                continue;
            u32 x[4];
            ldmatrix_x4(x, x_tile + (x_at ^ k) + i * 16 * DEPTH);
            mma_bf16_16816(sums[i][0], x, w);
            mma_bf16_16816(sums[i][1], x, w + 2);
        }
    }
}

// Writes the block's sums, or what they are with the bias, by way of shared memory: each thread has a column then, and
// neighbours write neighbouring values.
DEVICE void store_tile(const MultiplyTiles& a, const float sums[TILE_ROWS / 16][2][4], float* tile)
{
    constexpr u32 ACROSS = TILE_COLUMNS + 8;  // such that pairs of 4 rows meet different banks
    sync_threads();                           // the last tiles are read
#pragma unroll
    for (u32 i = 0; i < TILE_ROWS / 16 * 4; i++) {
        const u32 row = i / 4 * 16 + i % 2 * 8 + LANE / 4, col = WARP * 16 + i / 2 % 2 * 8 + LANE % 4 * 2;
        const float* const pair = sums[i / 4][i / 2 % 2] + i % 2 * 2;
        store_floats(tile + row * ACROSS + col, {pair[0], pair[1]});
    }
    sync_threads();
    const u32 first = BLOCK_Y * TILE_ROWS, col = BLOCK_X * TILE_COLUMNS + THREAD % TILE_COLUMNS;
    if (col >= a.w.rows)
        return;
    const float bias = a.bias.data && !a.sums ? at(a.bias, col) : 0.0f;
    const u64 of_split = (u64)BLOCK_Z * a.rows;
#pragma unroll 1
    for (u32 row = THREAD / TILE_COLUMNS; row < min_(a.rows - first, TILE_ROWS); row += TILE_THREADS / TILE_COLUMNS) {
        const float sum = tile[row * ACROSS + THREAD % TILE_COLUMNS] + bias;
        if (a.sums)
            a.sums[(of_split + first + row) * a.w.rows + col] = sum;
        else
            a.out[(u64)(first + row) * a.w.rows + col] = to_bf16(sum);
    }
}

// A block has 64 rows of x, 128 columns of the result and a part of the depth, a warp 16 of the columns: it decodes their
// weights itself. While it does, the rows of x arrive. Groups of 16 rows that x does not have cost nothing, nor do groups
// of 16 columns that the result does not have.
//
// Floor, for 64 rows and a weight of 9728 x 2560 in 4 bits: its 14 MB once, 6 us at 2.5 TB/s; 3.2 GFLOP, 5 us at the 600
// TFLOP/s of mma.sync on an H100; and 6 or 7 instructions to decode a value, 6 us. Above all three is shared memory: of
// 128 bytes in a cycle it takes 160 cycles for the fragments of 16 of the depth, and 32 to write the decoded ones, 9 us
// in all; half of it for 32 rows. Widening the weight first moves 114 MB, 45 us.
//
// Shared memory: 96 KiB, so that an SM with 227 KB holds two blocks, of which one decodes while the other multiplies,
// and all from Ampere on can hold one. 55 to 80 registers on sm_80, sm_90a and sm_120, up to 105 on sm_89.
template <typename Format> DEVICE void multiply_tiles(const MultiplyTiles& a)
{
    DYNAMIC_SHARED(bf16, tiles);
    bf16 *const x_tile = tiles, *const w_tile = tiles + (TILE_ROWS + WARP * 16) * DEPTH;
    const u32 first_row = BLOCK_Y * TILE_ROWS, first_col = BLOCK_X * TILE_COLUMNS + WARP * 16;
    const u32 groups = min_(a.rows - first_row + 15, TILE_ROWS) / 16;
    const u32 from = BLOCK_Z * a.depth, to = min_(from + a.depth, a.w.cols);
    float sums[TILE_ROWS / 16][2][4] = {};
    prefetch_weights(a.w, first_col, from, to);
#pragma unroll 1
    for (u32 k = from; k < to; k += DEPTH) {
        sync_threads();  // the last tile of x is read
        load_x(a, x_tile, first_row, groups * 16, k);
        copy_async_commit();
        if (first_col < a.w.rows)
            decode_tile<Format>(a.w, w_tile, first_col, k);
        copy_async_wait<0>();
        sync_threads();
        if (first_col < a.w.rows)
            multiply_tile(sums, x_tile, w_tile, groups);
    }
    store_tile(a, sums, reinterpret_cast<float*>(tiles));
}

// ---------------------------------------------------------------------------------------------------------------------
// The sums of all splits, in their order, and the bias.

struct AddSplits {
    bf16* out;          // (rows, cols)
    const float* sums;  // (splits, rows, cols)
    Param bias;         // (cols); none where its data is null
    u32 len;            // rows * cols
    u32 cols;
    u32 splits;
    u32 pad;
};

// A thread has a value. Floor: the sums once, mostly out of the L2 cache: they are no more than the widened weight was.
DEVICE void add_splits(const AddSplits& a)
{
    const u32 index = BLOCK_X * THREADS + THREAD;
    if (index >= a.len)
        return;
    float sum = a.bias.data ? at(a.bias, index % a.cols) : 0.0f;
    for (u32 split = 0; split < a.splits; split++)
        sum += a.sums[(u64)split * a.len + index];
    a.out[index] = to_bf16(sum);
}
KERNEL_BOUNDED(add_splits, AddSplits, 256)

// ---------------------------------------------------------------------------------------------------------------------
// The kernels of a format. `kernels/mod.rs` says for which formats: a source has those of one family, since all together
// would take 10 s to compile, and a family takes 2 or 3.

#define MULTIPLIER(name, Format)                                \
    DEVICE void multiply_rows_##name(const MultiplyRows& a)     \
    {                                                           \
        multiply_rows<Format>(a);                               \
    }                                                           \
    KERNEL_BOUNDED(multiply_rows_##name, MultiplyRows, 256)     \
    DEVICE void multiply_tiles_##name(const MultiplyTiles& a)   \
    {                                                           \
        multiply_tiles<Format>(a);                              \
    }                                                           \
    KERNEL_BOUNDED(multiply_tiles_##name, MultiplyTiles, TILE_THREADS)
