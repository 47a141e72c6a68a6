// How files store weights: what the bytes of eight neighbouring values mean, for every format. The meaning is that of
// zimage-kernels' `blocks`, to the bit. This text stands in front of decode.cu, quantize.cu and
// linear_quantized.cu.
//
// A thread has eight values at a time, which begin at a multiple of eight in their row: no scale changes among them, they
// are a whole number of bytes in every format, and eight halves are the sixteen bytes that a thread writes at once.

// A matrix as a file, or an operation, has left it.
struct Stored {
    const u8* values;
    const u8* scales;
    const u8* biases;  // none where it is null
    u32 rows;
    u32 cols;
    u32 row_bytes;
    u32 bits;        // of a value, where they are packed
    u32 flip;        // 1: of two values in a byte, the first lies in the upper half
    u32 group;       // values of a row that share a scale; 0: all of the matrix do
    u32 scale_type;  // 0 f32, 1 f16, 2 bf16, 3 e4m3, 4 a power of two
    u32 first_row;   // of the scales
    u32 swizzled;    // whether the scales lie in tiles of 128 x 4
    u32 rotated;     // whether rows were rotated in blocks of 256 values
    float factor;    // on every scale
    u32 pad;
};

// ---------------------------------------------------------------------------------------------------------------------
// Arithmetic with a rounding after each operation, as the CPU has it: a compiler for devices would fuse them.

DEVICE float times(float a, float b)
{
#ifdef __CUDACC_RTC__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

DEVICE float plus(float a, float b)
{
#ifdef __CUDACC_RTC__
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Bytes and numbers

// Up to eight bytes as a number, the first in the lowest place. Blocks of files begin at even addresses at least, most
// rows at multiples of eight: the test is the same for all threads nearly everywhere, and costs nothing beside memory.
DEVICE u64 bytes_at(const u8* p, u32 count)
{
    u64 place = reinterpret_cast<u64>(p), word = 0;
    if (count == 8 && place % 8 == 0)
        return *reinterpret_cast<const u64*>(p);
    if (count == 8 && place % 4 == 0) {
        const u32* parts = reinterpret_cast<const u32*>(p);
        return (u64)parts[1] << 32 | parts[0];
    }
    if (count == 4 && place % 4 == 0)
        return *reinterpret_cast<const u32*>(p);
    if (count % 2 == 0 && place % 2 == 0) {
        const u16* parts = reinterpret_cast<const u16*>(p);
        for (u32 i = 0; i < count / 2; i++)
            word |= (u64)parts[i] << (16 * i);
        return word;
    }
    for (u32 i = 0; i < count; i++)
        word |= (u64)p[i] << (8 * i);
    return word;
}

DEVICE u64 eight_at(const u8* p)
{
    return bytes_at(p, 8);
}

// Byte `k` of eight.
DEVICE u32 byte_of(u64 word, u32 k)
{
    return (u32)(word >> (8 * k)) & 255u;
}

DEVICE float half_at(const u8* p)
{
    return to_float(f16{*reinterpret_cast<const u16*>(p)});
}

DEVICE float signed_byte(u32 byte)
{
    return (float)(i8)byte;
}

DEVICE float e4m3(u32 byte)
{
    return to_float(f8{(u8)byte});
}

// The upper byte of an f16.
DEVICE float e5m2(u32 byte)
{
    return to_float(f16{(u16)(byte << 8)});
}

// ---------------------------------------------------------------------------------------------------------------------
// Formats without scales. A row may have any number of values, so that the last eight may be fewer.

struct F32 {
    DEVICE void eight(const Stored& a, u32 row, u32 col, u32 count, float v[8])
    {
        const u8* p = a.values + (u64)row * a.row_bytes + 4 * col;
        for (u32 k = 0; k < 8; k += 2) {
            u64 word = k + 2 <= count ? eight_at(p + 4 * k) : k < count ? bytes_at(p + 4 * k, 4) : 0;
            v[k] = float_of((u32)word);
            v[k + 1] = float_of((u32)(word >> 32));
        }
    }
};

// Two bytes each.
template <typename T> struct Halves {
    DEVICE void eight(const Stored& a, u32 row, u32 col, u32 count, float v[8])
    {
        const u8* p = a.values + (u64)row * a.row_bytes + 2 * col;
        for (u32 k = 0; k < 8; k += 4) {
            u64 word = k + 4 <= count ? eight_at(p + 2 * k) : k < count ? bytes_at(p + 2 * k, 2 * (count - k)) : 0;
            for (u32 i = 0; i < 4; i++)
                v[k + i] = to_float(T{(u16)(word >> (16 * i))});
        }
    }
};

// One byte each.
template <float number(u32)> struct Bytes {
    DEVICE void eight(const Stored& a, u32 row, u32 col, u32 count, float v[8])
    {
        u64 word = bytes_at(a.values + (u64)row * a.row_bytes + col, count);
        for (u32 k = 0; k < 8; k++)
            v[k] = number(byte_of(word, k));
    }
};

// Rows of halves with a power of two for each row, as `quantize` leaves them.
struct ScaledHalves {
    DEVICE void eight(const Stored& a, u32 row, u32 col, u32 count, float v[8])
    {
        Halves<f16>::eight(a, row, col, count, v);
        float scale = reinterpret_cast<const float*>(a.scales)[row];
        for (u32 k = 0; k < 8; k++)
            v[k] = times(v[k], scale);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// ggml's formats. `eight(block, at, v)` decodes the values from `at` on of one block.

template <typename Block> struct Blocks {
    DEVICE void eight(const Stored& a, u32 row, u32 col, u32, float v[8])
    {
        const u8* block = a.values + (u64)row * a.row_bytes + col / Block::LEN * Block::BYTES;
        Block::eight(block, col % Block::LEN, v);
    }
};

struct Q8_0 {
    static constexpr u32 LEN = 32, BYTES = 34;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float d = half_at(block);
        u64 word = eight_at(block + 2 + at);
        for (u32 k = 0; k < 8; k++)
            v[k] = times(signed_byte(byte_of(word, k)), d);
    }
};

// Numbers of 4 bits of a block of 32: the first half in the lower halves of the bytes.
DEVICE u64 nibbles_at(const u8* packed, u32 at)
{
    u64 word = eight_at(packed + at % 16);
    return (at < 16 ? word : word >> 4) & 0x0f0f0f0f0f0f0f0full;
}

struct Q4_0 {
    static constexpr u32 LEN = 32, BYTES = 18;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float d = half_at(block);
        u64 word = nibbles_at(block + 2, at);
        for (u32 k = 0; k < 8; k++)
            v[k] = times((float)((i32)byte_of(word, k) - 8), d);
    }
};

struct Q4_1 {
    static constexpr u32 LEN = 32, BYTES = 20;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float d = half_at(block), m = half_at(block + 2);
        u64 word = nibbles_at(block + 4, at);
        for (u32 k = 0; k < 8; k++)
            v[k] = plus(times((float)byte_of(word, k), d), m);
    }
};

struct Q5_0 {
    static constexpr u32 LEN = 32, BYTES = 22;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float d = half_at(block);
        u32 fifth = (u32)bytes_at(block + 2, 4) >> at;
        u64 word = nibbles_at(block + 6, at);
        for (u32 k = 0; k < 8; k++)
            v[k] = times((float)((i32)(byte_of(word, k) | (fifth >> k & 1u) << 4) - 16), d);
    }
};

struct Q5_1 {
    static constexpr u32 LEN = 32, BYTES = 24;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float d = half_at(block), m = half_at(block + 2);
        u32 fifth = (u32)bytes_at(block + 4, 4) >> at;
        u64 word = nibbles_at(block + 8, at);
        for (u32 k = 0; k < 8; k++)
            v[k] = plus(times((float)(byte_of(word, k) | (fifth >> k & 1u) << 4), d), m);
    }
};

struct Q2K {
    static constexpr u32 LEN = 256, BYTES = 84;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        u32 line = block[at / 16], shift = at / 32 % 4 * 2;
        float scale = times(half_at(block + 80), (float)(line & 15u));
        float minimum = times(half_at(block + 82), (float)(line >> 4));
        u64 word = eight_at(block + 16 + at / 128 * 32 + at % 32);
        for (u32 k = 0; k < 8; k++)
            v[k] = plus(times(scale, (float)(byte_of(word, k) >> shift & 3u)), -minimum);
    }
};

struct Q3K {
    static constexpr u32 LEN = 256, BYTES = 110;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        const u8* scales = block + 96;
        u32 group = at / 16, shift = group / 2 % 4 * 2, bit = group / 2;
        u32 low = scales[group % 8] >> (group / 8 * 4) & 15u, high = scales[8 + group % 4] >> (group / 4 * 2) & 3u;
        float scale = times(half_at(block + 108), (float)((i32)(low | high << 4) - 32));
        u64 word = eight_at(block + 32 + at / 128 * 32 + at % 32), third = eight_at(block + at % 32);
        for (u32 k = 0; k < 8; k++) {
            i32 q = (i32)(byte_of(word, k) >> shift & 3u) - 4 + (i32)((byte_of(third, k) >> bit & 1u) << 2);
            v[k] = times(scale, (float)q);
        }
    }
};

// Scale and minimum of a group of Q4_K and Q5_K, 6 bits each.
DEVICE void scale_and_minimum(const u8* block, u32 group, float& scale, float& minimum)
{
    const u8* scales = block + 4;
    u32 s = scales[group % 4], m = scales[group % 4 + 4];
    if (group < 4) {
        s &= 63u;
        m &= 63u;
    } else {
        u32 low = scales[group + 4];
        s = (low & 15u) | s >> 6 << 4;
        m = low >> 4 | m >> 6 << 4;
    }
    scale = times(half_at(block), (float)s);
    minimum = times(half_at(block + 2), (float)m);
}

struct Q4K {
    static constexpr u32 LEN = 256, BYTES = 144;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float scale, minimum;
        scale_and_minimum(block, at / 32, scale, minimum);
        u64 word = eight_at(block + 16 + at / 64 * 32 + at % 32) >> (at / 32 % 2 * 4);
        for (u32 k = 0; k < 8; k++)
            v[k] = plus(times(scale, (float)(byte_of(word, k) & 15u)), -minimum);
    }
};

struct Q5K {
    static constexpr u32 LEN = 256, BYTES = 176;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        float scale, minimum;
        u32 group = at / 32;
        scale_and_minimum(block, group, scale, minimum);
        u64 word = eight_at(block + 48 + group / 2 * 32 + at % 32) >> (group % 2 * 4);
        u64 fifth = eight_at(block + 16 + at % 32) >> group;
        for (u32 k = 0; k < 8; k++) {
            u32 q = (byte_of(word, k) & 15u) | (byte_of(fifth, k) & 1u) << 4;
            v[k] = plus(times(scale, (float)q), -minimum);
        }
    }
};

struct Q6K {
    static constexpr u32 LEN = 256, BYTES = 210;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        u32 pair = at / 32, low_shift = pair / 2 % 2 * 4, high_shift = pair % 4 * 2;
        float scale = times(half_at(block + 208), signed_byte(block[192 + at / 16]));
        u64 word = eight_at(block + pair / 4 * 64 + pair % 2 * 32 + at % 32);
        u64 upper = eight_at(block + 128 + pair / 4 * 32 + at % 32);
        for (u32 k = 0; k < 8; k++) {
            u32 q = (byte_of(word, k) >> low_shift & 15u) | (byte_of(upper, k) >> high_shift & 3u) << 4;
            v[k] = times(scale, (float)((i32)q - 32));
        }
    }
};

struct Iq4Nl {
    static constexpr u32 LEN = 32, BYTES = 18;
    DEVICE void eight(const u8* block, u32 at, float v[8])
    {
        // -127 -104 -83 -65 -49 -35 -22 -10, then 1 13 25 38 53 69 89 113, as bytes: a table that fits into two
        // registers is a shift.
        const u64 below = 0xf6eaddcfbfad9881ull, above = 0x7159453526190d01ull;
        float d = half_at(block);
        u64 word = nibbles_at(block + 2, at);
        for (u32 k = 0; k < 8; k++) {
            u32 q = byte_of(word, k);
            v[k] = times(signed_byte(byte_of(q < 8 ? below : above, q % 8)), d);
        }
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Values and scales apart, as files of MLX and ComfyUI have them: `value * (scale * factor) + bias`.

// A scale or a bias.
DEVICE float line_at(const Stored& a, const u8* plane, u64 place)
{
    switch (a.scale_type) {
    case 0: return reinterpret_cast<const float*>(plane)[place];
    case 1: return half_at(plane + 2 * place);
    case 2: return to_float(bf16{reinterpret_cast<const u16*>(plane)[place]});
    case 3: return e4m3(plane[place]);
    default: {
        u32 exponent = plane[place];
        u32 bits = exponent == 0 ? 0x00400000u : exponent == 255 ? 0x7fc00000u : exponent << 23;
        return float_of(bits);
    }
    }
}

// Which scale belongs to a value.
DEVICE u64 scale_place(const Stored& a, u32 row, u32 col)
{
    if (a.group == 0)
        return 0;
    u32 per_row = a.cols / a.group, group = col / a.group;
    row += a.first_row;
    if (!a.swizzled)
        return (u64)row * per_row + group;
    u64 tile = (u64)(row / 128) * ((per_row + 3) / 4) + group / 4;
    return tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + group % 4;
}

// A block of 256 values in a warp, multiplied by the regular Hadamard matrix H4 x H4 x H4 x H4 / 16 (`rotation.rs`), in
// the order of its additions. Thread `t` has the values from 8 t on: the digits of a value's place to the base 4 are
// in its own place, in the thread's lowest bit and the place, in bits 1 and 2 of the thread, and in 3 and 4.
DEVICE void rotate(float v[8])
{
    for (u32 k = 0; k < 8; k += 4) {
        float a = v[k], b = v[k + 1], c = v[k + 2], d = v[k + 3];
        float half = times(0.5f, plus(plus(a, b), plus(c, d)));
        v[k] = plus(half, -d), v[k + 1] = plus(half, -c), v[k + 2] = plus(half, -b), v[k + 3] = plus(half, -a);
    }
    for (u32 k = 0; k < 4; k++) {
        float x = v[k], y = v[k + 4], p = shuffle_xor(x, 1), q = shuffle_xor(y, 1);
        float half = times(0.5f, plus(plus(x, y), plus(p, q)));
        v[k] = plus(half, -q), v[k + 4] = plus(half, -p);
    }
    for (u32 low = 2; low <= 8; low *= 4) {
        u32 base = LANE & ~(3 * low), digit = LANE / low % 4;
        for (u32 k = 0; k < 8; k++) {
            float a = shuffle(v[k], base), b = shuffle(v[k], base + low);
            float c = shuffle(v[k], base + 2 * low), d = shuffle(v[k], base + 3 * low);
            float half = times(0.5f, plus(plus(a, b), plus(c, d)));
            v[k] = plus(half, -(digit == 0 ? d : digit == 1 ? c : digit == 2 ? b : a));
        }
    }
}

// Eight numbers with their scale; the warp has whole blocks of a rotated row.
template <typename Packed> struct Scaled {
    DEVICE void eight(const Stored& a, u32 row, u32 col, u32 count, float v[8])
    {
        u32 bits = Packed::BITS ? Packed::BITS : a.bits;
        const u8* p = a.values + (u64)row * a.row_bytes + (u64)col * bits / 8;
        u64 word = bytes_at(p, (count * bits + 7) / 8), place = scale_place(a, row, col);
        float scale = times(line_at(a, a.scales, place), a.factor);
        // A negative zero as bias changes no number, not even the sign of a zero.
        float bias = a.biases ? line_at(a, a.biases, place) : -0.0f;
        for (u32 k = 0; k < 8; k++)
            v[k] = plus(times(Packed::number(a, word, k), scale), bias);
        if (a.rotated)
            rotate(v);
    }
};

// Numbers from 0 on of any width: one after the other from the lowest bit on.
struct Stream {
    static constexpr u32 BITS = 0;  // the matrix tells
    DEVICE float number(const Stored& a, u64 word, u32 k)
    {
        return (float)((u32)(word >> (k * a.bits)) & ((1u << a.bits) - 1));
    }
};

// Eight bits each.
template <float value(u32)> struct Whole {
    static constexpr u32 BITS = 8;
    DEVICE float number(const Stored&, u64 word, u32 k)
    {
        return value(byte_of(word, k));
    }
};

// Four bits each, in either order.
template <float value(u32)> struct Nibbles {
    static constexpr u32 BITS = 4;
    DEVICE float number(const Stored& a, u64 word, u32 k)
    {
        return value((u32)word >> ((k ^ a.flip) * 4) & 15u);
    }
};

DEVICE float unsigned_number(u32 code)
{
    return (float)code;
}

DEVICE float signed_nibble(u32 code)
{
    return (float)((i32)(code << 28) >> 28);
}

// 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives: twice the magnitudes are in a word, 4 bits each.
DEVICE float e2m1(u32 code)
{
    float magnitude = 0.5f * (float)(0xc8643210u >> ((code & 7u) * 4) & 15u);
    return float_of(bits_of(magnitude) | (code & 8u) << 28);
}

// ---------------------------------------------------------------------------------------------------------------------
// Every format by the end of its kernels' names, in families whose kernels are compiled together where they are large:
// a file mostly has one.

#define FOR_WIDE_FORMATS(MAKE) \
    MAKE(f32, F32)             \
    MAKE(bf16, Halves<bf16>)   \
    MAKE(f16, Halves<f16>)     \
    MAKE(scaled_f16, ScaledHalves)

#define FOR_BLOCKS_OF_32(MAKE) \
    MAKE(q8_0, Blocks<Q8_0>)   \
    MAKE(q4_0, Blocks<Q4_0>)   \
    MAKE(q4_1, Blocks<Q4_1>)   \
    MAKE(q5_0, Blocks<Q5_0>)   \
    MAKE(q5_1, Blocks<Q5_1>)   \
    MAKE(iq4_nl, Blocks<Iq4Nl>)

#define FOR_BLOCKS_OF_256(MAKE) \
    MAKE(q2_k, Blocks<Q2K>)     \
    MAKE(q3_k, Blocks<Q3K>)     \
    MAKE(q4_k, Blocks<Q4K>)     \
    MAKE(q5_k, Blocks<Q5K>)     \
    MAKE(q6_k, Blocks<Q6K>)

#define FOR_BITS(MAKE)                                \
    MAKE(scaled_stream, Scaled<Stream>)               \
    MAKE(scaled_u4, Scaled<Nibbles<unsigned_number>>) \
    MAKE(scaled_i4, Scaled<Nibbles<signed_nibble>>)   \
    MAKE(scaled_e2m1, Scaled<Nibbles<e2m1>>)

#define FOR_BYTES(MAKE)                             \
    MAKE(f8_e4m3, Bytes<e4m3>)                      \
    MAKE(f8_e5m2, Bytes<e5m2>)                      \
    MAKE(scaled_u8, Scaled<Whole<unsigned_number>>) \
    MAKE(scaled_i8, Scaled<Whole<signed_byte>>)     \
    MAKE(scaled_e4m3, Scaled<Whole<e4m3>>)          \
    MAKE(scaled_e5m2, Scaled<Whole<e5m2>>)

#define FOR_EVERY_FORMAT(MAKE) \
    FOR_WIDE_FORMATS(MAKE)     \
    FOR_BLOCKS_OF_32(MAKE)     \
    FOR_BLOCKS_OF_256(MAKE)    \
    FOR_BITS(MAKE)             \
    FOR_BYTES(MAKE)
