// Products of warpgroups, as the PTX manual has them ("Asynchronous Warpgroup Level Matrix Instructions"). This text
// stands between emulator.h and primitives.cuh.
//
// They are computed when they are waited for, which is as late as they may be: until then their sums are NaN, and what
// is written to their factors meanwhile counts. Whether threads have their fences is looked after, more strictly than
// the manual does: one for registers between each wait and the next product, one for shared memory between the arrival
// of a copy and the products that read it, by the thread that copied.

namespace emulator {

constexpr uint32_t ROWS = 64, COLUMNS = 128, DEPTH = 16;

// A factor in shared memory, by its descriptor.
struct Factor {
    uint32_t start, leading, stride;
    uint32_t chunks;  // of 16 bytes that are exchanged with each other

    explicit Factor(uint64_t descriptor)
    {
        auto bytes = [&](uint32_t from) { return uint32_t(descriptor >> from & 0x3fff) << 4; };
        start = bytes(0), leading = bytes(16), stride = bytes(32);
        const uint32_t of_modes[] = {1, 8, 4, 2};
        chunks = of_modes[descriptor >> 62];
        if (descriptor >> 49 & 7)
            here->failure = "the emulator knows no factors whose pattern begins within another";
    }

    // Where value `k` along the sums of row or column `i` across them lies. In the manual's terms an across one is
    // MN-major, any other K-major.
    uint32_t place(uint32_t i, uint32_t k, bool across) const
    {
        uint32_t row = 16 * chunks, at;
        if (!across && chunks == 1)
            at = i % 8 * row + i / 8 * stride + k % 8 * 2 + k / 8 * leading;
        else if (!across)
            at = i % 8 * row + i / 8 * stride + k * 2;
        else if (chunks == 1)
            at = i % 8 * 2 + i / 8 * stride + k % 8 * row + k / 8 * leading;
        else
            at = i % (8 * chunks) * 2 + i / (8 * chunks) * leading + k % 8 * row + k / 8 * stride;
        at += start;
        return at ^ (at >> 7 & (chunks - 1)) << 4;
    }

    float value(uint32_t i, uint32_t k, bool across) const
    {
        uint32_t at = place(i, k, across) - SHARED_AT;  // beyond its end where it is before its begin
        if (at + 2 > here->shared_bytes || at + 2 < at) {
            here->failure = "a factor is not within shared memory";
            return 0.0f;
        }
        const Arrival& arrival = here->arrivals[at / 16];
        if (arrival.thread != NOBODY && here->all[arrival.thread].fences == arrival.fences)
            here->failure = "a product reads a copy that no fence made visible to it";
        uint16_t bits;
        std::memcpy(&bits, here->shared + at, 2);
        return of_bf16(bits);
    }
};

static void fence_copies()
{
    here->all[here->thread].fences++;
}

static void fence_sums()
{
    here->all[here->thread].fenced = true;
}

static void commit_products()
{
    here->all[here->thread].product_groups++;
}

static GroupSums* sums_of(Thread& thread, const float* d)
{
    auto is_d = [&](const GroupSums& sums) { return sums.d == d; };
    auto found = std::find_if(thread.sums.begin(), thread.sums.end(), is_d);
    return found == thread.sums.end() ? nullptr : &*found;
}

static void product(GroupProduct product)
{
    Thread& thread = here->all[here->thread];
    if (!thread.fenced)
        fail("no fence stands between a thread's registers and a product that takes them");
    product.group = thread.product_groups;
    thread.products.push_back(product);
    if (sums_of(thread, product.d))
        return;
    float* end = product.d + COLUMNS / 2;
    thread.sums.push_back({product.d, std::vector<float>(product.d, end)});
    std::fill(product.d, end, NAN);
}

static void product_64x128(float* d, const uint32_t* a, uint64_t a_at, uint64_t b_at, bool b_is_across, bool adds)
{
    product({d, a, a_at, b_at, b_is_across, adds, 0});
}

static void wait_for_products(uint32_t pending)
{
    Thread& thread = here->all[here->thread];
    thread.pending_groups = pending;
    thread.fenced = false;
    wait(State::AtGroup);
}

static bool is_same(const GroupProduct& x, const GroupProduct& y)
{
    return !x.a == !y.a && x.a_at == y.a_at && x.b_at == y.b_at && x.b_is_across == y.b_is_across && x.adds == y.adds
        && x.group == y.group;
}

// The first product of all threads.
static void multiply_first(Thread* threads)
{
    const GroupProduct& first = threads[0].products[0];
    float a[ROWS][DEPTH], b[DEPTH][COLUMNS];
    Factor a_shared(first.a_at), b_shared(first.b_at);
    for (uint32_t i = 0; i < ROWS && !first.a; i++)
        for (uint32_t k = 0; k < DEPTH; k++)
            a[i][k] = a_shared.value(i, k, false);
    for (uint32_t i = 0; i < ROWS * DEPTH / 2 && first.a; i++) {
        uint32_t thread = i / 4, g = thread % LANES / 4, t = thread % 4, r = i % 4;
        uint32_t pair = threads[thread].products[0].a[r];
        float* place = &a[thread / LANES * 16 + g + 8 * (r % 2)][2 * t + 8 * (r / 2)];
        place[0] = of_bf16(pair & 0xffff);
        place[1] = of_bf16(pair >> 16);
    }
    for (uint32_t k = 0; k < DEPTH; k++)
        for (uint32_t j = 0; j < COLUMNS; j++)
            b[k][j] = b_shared.value(j, k, first.b_is_across);
    for (uint32_t i = 0; i < ROWS; i++) {
        // Four threads have the sums of a row.
        float d[COLUMNS], *of_threads[4];
        for (uint32_t t = 0; t < 4; t++) {
            Thread& thread = threads[i / 16 * LANES + i % 8 * 4 + t];
            of_threads[t] = sums_of(thread, thread.products[0].d)->values.data() + i % 16 / 8 * 2;
        }
        for (uint32_t j = 0; j < COLUMNS; j++)
            d[j] = first.adds ? of_threads[j % 8 / 2][j / 8 * 4 + j % 2] : 0.0f;
        for (uint32_t k = 0; k < DEPTH; k++)
            for (uint32_t j = 0; j < COLUMNS; j++)
                d[j] += a[i][k] * b[k][j];
        for (uint32_t j = 0; j < COLUMNS; j++)
            of_threads[j % 8 / 2][j / 8 * 4 + j % 2] = d[j];
    }
}

// Computes what the threads of a warpgroup wait for, and gives each its sums.
static void finish_products(Thread* threads)
{
    constexpr uint32_t COUNT = WARPS_OF_GROUP * LANES;
    auto is_done = [](const Thread& thread, const GroupProduct& product) {
        return product.group + thread.pending_groups < thread.product_groups;
    };
    while (!threads[0].products.empty() && is_done(threads[0], threads[0].products[0])) {
        for (uint32_t i = 1; i < COUNT; i++)
            if (threads[i].products.empty() || threads[i].pending_groups != threads[0].pending_groups
                || !is_same(threads[0].products[0], threads[i].products[0])) {
                here->failure = "the threads of a warpgroup do not all ask for the same product";
                return;
            }
        multiply_first(threads);
        for (uint32_t i = 0; i < COUNT; i++)
            threads[i].products.erase(threads[i].products.begin());
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        Thread& thread = threads[i];
        auto gives = [&](const GroupSums& sums) {
            auto adds = [&](const GroupProduct& product) { return product.d == sums.d; };
            bool whole = std::none_of(thread.products.begin(), thread.products.end(), adds);
            if (whole)
                std::copy(sums.values.begin(), sums.values.end(), sums.d);
            return whole;
        };
        thread.sums.erase(std::remove_if(thread.sums.begin(), thread.sums.end(), gives), thread.sums.end());
    }
}

}  // namespace emulator
