// A device's threads on one thread of the CPU. This text stands in front of primitives.cuh.
//
// Each thread of a block has a stack of its own and runs until it comes to a call that others must come to as well;
// then the next one runs. When all 32 lanes of a warp are at the same call it is done for all of them at once, and so
// it is for the four warps of a warpgroup; when all threads of a block are at a barrier they go on. Where some never
// come, the block ends with a message.
//
// What would be a race on a device is found by being nasty: the order of threads is turned around at every step and in
// every other block, shared memory begins as NaN, and asynchronous copies and products arrive as late as they may.

#include <math.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace emulator {

constexpr uint32_t LANES = 32;
constexpr uint32_t WARPS_OF_GROUP = 4;
constexpr size_t STACK_BYTES = 64 * 1024;
// Bytes behind shared memory, and what they are.
constexpr size_t GUARD_BYTES = 1024;
constexpr uint8_t GUARDED = 0xa5;
// Lies at the end of every stack.
constexpr uint64_t SENTINEL = 0x5ea1ed0fc0ffee00;

// Where shared memory begins, in its own addresses: as far as its alignment promises, and no further.
constexpr uint32_t SHARED_AT = 1024 + 128;

enum class State { Fresh, Running, AtWarp, AtGroup, AtBlock, Done };

// Something that a warp does together, over what each lane brings.
using Work = void (*)(void** operands);

struct Copy {
    void* to;
    const void* from;
    bool valid;
    uint32_t group;
};

// The last copy into 16 bytes of shared memory, as the thread counts its fences when it arrives.
struct Arrival {
    uint32_t thread, fences;
};
constexpr uint32_t NOBODY = ~0u;

// d (64, 128) = a b, plus d where it `adds`: what a thread asked its warpgroup for. See warpgroups.h.
struct GroupProduct {
    float* d;
    const uint32_t* a;  // in registers, or null
    uint64_t a_at, b_at;
    bool b_is_across, adds;
    uint32_t group;
};

// Sums of products that are not done: d is NaN until then.
struct GroupSums {
    float* d;
    std::vector<float> values;
};

struct Thread {
    State state;
    void* stack;
    void* at;  // the stack pointer, while others run
    Work work;
    void* operand;
    uint32_t groups;  // of copies, ended so far
    std::vector<Copy> copies;
    uint32_t fences;          // that made copies visible to products, so far
    uint32_t product_groups;  // ended so far
    uint32_t pending_groups;  // those that it does not wait for
    bool fenced;              // registers, since products were waited for
    std::vector<GroupProduct> products;
    std::vector<GroupSums> sums;
};

// What kernels see of the block that runs on this thread of the CPU, and the block itself.
struct Here {
    uint32_t block[3];
    uint32_t grid_x;
    uint32_t thread;
    uint32_t threads;
    uint8_t* shared;

    void (*kernel)(const void*);
    const void* given;
    void* scheduler;  // its stack pointer, while a thread runs
    const char* failure;
    std::vector<Thread> all;
    std::vector<void*> stacks;  // free ones
    std::vector<uint8_t> memory;
    uint32_t shared_bytes;
    std::vector<Arrival> arrivals;  // for each 16 bytes of shared memory, and one for what is elsewhere
};

static thread_local Here* here = nullptr;

// Stores the registers that a callee must keep, and the stack pointer in *from; then loads the same from `to`.
extern "C" void emulator_switch(void** from, void* to) __asm__("emulator_switch");

#if defined(__x86_64__)
__asm__(R"(
    .text
    .p2align 4
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
// Words on the stack: six registers, the return address at a multiple of 16 bytes, and nothing.
constexpr size_t RETURN_AT = 6, FRAME = 8;
#elif defined(__aarch64__)
__asm__(R"(
    .text
    .p2align 4
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
// Words on the stack; x30 is the return address.
constexpr size_t RETURN_AT = 11, FRAME = 20;
#else
#error "the emulator knows how to switch stacks on x86_64 and aarch64 only"
#endif

// Lets others run until this thread may go on.
static void wait(State state)
{
    Thread& thread = here->all[here->thread];
    thread.state = state;
    emulator_switch(&thread.at, here->scheduler);
}

// Ends the block: this thread never goes on.
static void fail(const char* message)
{
    here->failure = message;
    wait(State::Done);
}

static void run_thread()
{
    here->kernel(here->given);
    wait(State::Done);
}

static void resume(uint32_t index)
{
    Thread& thread = here->all[index];
    here->thread = index;
    if (thread.state == State::Fresh) {
        if (here->stacks.empty())
            here->stacks.push_back(std::aligned_alloc(64, STACK_BYTES));
        thread.stack = here->stacks.back();
        here->stacks.pop_back();
        *static_cast<uint64_t*>(thread.stack) = SENTINEL;
        // What a switch leaves on a stack, so that the first switch to it returns into `run_thread`.
        void** frame = reinterpret_cast<void**>(static_cast<char*>(thread.stack) + STACK_BYTES) - FRAME;
        std::fill(frame, frame + FRAME, nullptr);
        frame[RETURN_AT] = reinterpret_cast<void*>(&run_thread);
        thread.at = frame;
    }
    thread.state = State::Running;
    emulator_switch(&here->scheduler, thread.at);
    if (*static_cast<uint64_t*>(thread.stack) != SENTINEL)
        here->failure = "a thread's stack is too small for its variables";
    if (thread.state == State::Done)
        here->stacks.push_back(thread.stack);
}

// Runs a warp until all its lanes are at a barrier of the block, wait for products of their warpgroup, or are done.
static void run_warp(uint32_t warp, bool backwards)
{
    Thread* lanes = &here->all[warp * LANES];
    void* operands[LANES];
    for (;; backwards = !backwards) {
        uint32_t at_warp = 0, at_group = 0, at_block = 0, done = 0;
        Work work = nullptr;
        bool same = true;
        for (uint32_t i = 0; i < LANES; i++) {
            uint32_t lane = backwards ? LANES - 1 - i : i;
            Thread& thread = lanes[lane];
            if (thread.state == State::Fresh || thread.state == State::Running)
                resume(warp * LANES + lane);
            if (here->failure)
                return;
            at_group += thread.state == State::AtGroup;
            at_block += thread.state == State::AtBlock;
            done += thread.state == State::Done;
            if (thread.state != State::AtWarp)
                continue;
            work = at_warp++ == 0 ? thread.work : work;
            same = same && thread.work == work;
            operands[lane] = thread.operand;
        }
        if (done == LANES || at_block == LANES || at_group == LANES)
            return;
        if (at_warp != LANES || !same) {
            here->failure = "the threads of a warp do not all come to the same barrier, shuffle or product";
            return;
        }
        if (work)
            work(operands);
        for (uint32_t lane = 0; lane < LANES; lane++)
            lanes[lane].state = State::Running;
    }
}

// In warpgroups.h.
static void finish_products(Thread* threads);

// Runs a warpgroup, or the few warps that are the last ones, until all threads are at a barrier of the block, or done.
static void run_group(uint32_t group, bool backwards)
{
    uint32_t first = group * WARPS_OF_GROUP, warps = std::min(WARPS_OF_GROUP, here->threads / LANES - first);
    Thread* threads = &here->all[first * LANES];
    for (;; backwards = !backwards) {
        for (uint32_t i = 0; i < warps && !here->failure; i++)
            run_warp(first + (backwards ? warps - 1 - i : i), backwards);
        auto waits = [](const Thread& thread) { return thread.state == State::AtGroup; };
        uint32_t waiting = std::count_if(threads, threads + warps * LANES, waits);
        if (here->failure || waiting == 0)
            return;
        if (waiting != WARPS_OF_GROUP * LANES) {
            here->failure = "the warps of a warpgroup do not all wait for its products";
            return;
        }
        finish_products(threads);
        for (uint32_t i = 0; i < waiting; i++)
            threads[i].state = State::Running;
    }
}

static void run_threads()
{
    uint32_t groups = (here->threads / LANES + WARPS_OF_GROUP - 1) / WARPS_OF_GROUP;
    bool backwards = (here->block[0] + here->block[1] + here->block[2]) % 2;
    for (;; backwards = !backwards) {
        for (uint32_t i = 0; i < groups && !here->failure; i++)
            run_group(backwards ? groups - 1 - i : i, backwards);
        if (here->failure)
            return;
        uint32_t done = 0;
        for (uint32_t i = 0; i < here->threads; i++)
            done += here->all[i].state == State::Done;
        if (done == here->threads)
            return;
        if (done != 0) {
            here->failure = "some threads of a block are done while others wait at a barrier";
            return;
        }
        for (uint32_t i = 0; i < here->threads; i++)
            here->all[i].state = State::Running;
    }
}

// Runs one block; gives what went wrong, or null.
extern "C" const char* emulator_run(
    void (*kernel)(const void*), const void* given, const uint32_t* block, uint32_t grid_x, uint32_t threads,
    uint32_t shared_bytes)
{
    static thread_local Here own;
    here = &own;
    std::copy(block, block + 3, own.block);
    own.grid_x = grid_x;
    own.threads = threads;
    own.kernel = kernel;
    own.given = given;
    own.failure = nullptr;
    own.memory.resize(128 + shared_bytes + GUARD_BYTES);
    size_t past = reinterpret_cast<uintptr_t>(own.memory.data()) % 128;
    own.shared = own.memory.data() + (128 - past) % 128;
    std::memset(own.shared, 0xff, shared_bytes);
    uint8_t* guard = own.shared + shared_bytes;
    std::memset(guard, GUARDED, GUARD_BYTES);
    own.shared_bytes = shared_bytes;
    own.arrivals.assign(shared_bytes / 16 + 2, {NOBODY, 0});
    if (own.all.size() < threads)
        own.all.resize(threads);
    for (uint32_t i = 0; i < threads; i++) {
        Thread& thread = own.all[i];
        thread.state = State::Fresh;
        thread.groups = thread.fences = thread.product_groups = 0;
        thread.fenced = false;
        thread.copies.clear();
        thread.products.clear();
        thread.sums.clear();
    }
    run_threads();
    for (uint32_t i = 0; i < threads && !own.failure; i++)
        if (!own.all[i].products.empty())
            own.failure = "nobody waits for a product of a warpgroup";
    auto whole = [](uint8_t byte) { return byte == GUARDED; };
    if (!own.failure && !std::all_of(guard, guard + GUARD_BYTES, whole))
        own.failure = "a block wrote behind its shared memory";
    if (own.failure)  // the stacks of threads that never end
        for (uint32_t i = 0; i < threads; i++)
            if (own.all[i].state != State::Fresh && own.all[i].state != State::Done)
                own.stacks.push_back(own.all[i].stack);
    return own.failure;
}

// ---------------------------------------------------------------------------------------------------------------------
// What primitives.cuh is made of

static uint32_t bits_of(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

static uint32_t atomic_min(uint32_t* place, uint32_t value)
{
    uint32_t old = __atomic_load_n(place, __ATOMIC_RELAXED);
    while (value < old && !__atomic_compare_exchange_n(place, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}

static Arrival& arrival_at(const void* place)
{
    size_t bytes = static_cast<const uint8_t*>(place) - here->shared;
    return bytes < here->shared_bytes ? here->arrivals[bytes / 16] : here->arrivals.back();
}

static uint32_t shared_address(const void* place)
{
    return SHARED_AT + uint32_t(static_cast<const uint8_t*>(place) - here->shared);
}

static void sync_threads()
{
    wait(State::AtBlock);
}

static void together(Work work, void* operand)
{
    Thread& thread = here->all[here->thread];
    thread.work = work;
    thread.operand = operand;
    wait(State::AtWarp);
}

static void sync_warp()
{
    together(nullptr, nullptr);
}

struct Shuffle {
    uint32_t value, lane, result;
};

static void shuffle_all(void** operands)
{
    Shuffle** lanes = reinterpret_cast<Shuffle**>(operands);
    for (uint32_t i = 0; i < LANES; i++)
        lanes[i]->result = lanes[lanes[i]->lane]->value;
}

static uint32_t shuffle(uint32_t value, uint32_t lane)
{
    Shuffle mine = {value, lane, 0};
    together(shuffle_all, &mine);
    return mine.result;
}

static float of_bf16(uint32_t bits)
{
    return float_of(bits << 16);
}

static float of_f16(uint32_t bits)
{
    uint32_t sign = (bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    // The fraction and the exponent move to their places in a float; the difference of bias is a factor, exact for
    // small halves too.
    float value = magnitude >= 0x7c00 ? float_of(0x7f800000 | magnitude << 13) : float_of(magnitude << 13) * 0x1p112f;
    return float_of(sign | bits_of(value));
}

struct Product {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
};

template <float (*WIDEN)(uint32_t)> static void multiply_all(void** operands)
{
    Product** lanes = reinterpret_cast<Product**>(operands);
    float a[16][16], b[16][8], d[16][8];
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t g = lane / 4, t = lane % 4;
        const Product& mine = *lanes[lane];
        for (uint32_t r = 0; r < 4; r++) {
            float* place = &a[g + 8 * (r % 2)][2 * t + 8 * (r / 2)];
            place[0] = WIDEN(mine.a[r] & 0xffff);
            place[1] = WIDEN(mine.a[r] >> 16);
            d[g + 8 * (r / 2)][2 * t + r % 2] = mine.d[r];
        }
        for (uint32_t r = 0; r < 2; r++) {
            b[2 * t + 8 * r][g] = WIDEN(mine.b[r] & 0xffff);
            b[2 * t + 8 * r + 1][g] = WIDEN(mine.b[r] >> 16);
        }
    }
    for (uint32_t i = 0; i < 16; i++)
        for (uint32_t k = 0; k < 16; k++)
            for (uint32_t j = 0; j < 8; j++)
                d[i][j] += a[i][k] * b[k][j];
    for (uint32_t lane = 0; lane < LANES; lane++)
        for (uint32_t r = 0; r < 4; r++)
            lanes[lane]->d[r] = d[lane / 4 + 8 * (r / 2)][2 * (lane % 4) + r % 2];
}

static void mma_bf16_16816(float* d, const uint32_t* a, const uint32_t* b)
{
    Product mine = {d, a, b};
    together(multiply_all<of_bf16>, &mine);
}

static void mma_f16_16816(float* d, const uint32_t* a, const uint32_t* b)
{
    Product mine = {d, a, b};
    together(multiply_all<of_f16>, &mine);
}

struct Matrices {
    uint32_t* results;
    const uint16_t* row;
};

template <uint32_t COUNT, bool TRANSPOSED> static void load_all(void** operands)
{
    Matrices** lanes = reinterpret_cast<Matrices**>(operands);
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t g = lane / 4, t = lane % 4;
        for (uint32_t i = 0; i < COUNT; i++) {
            auto value = [&](uint32_t row, uint32_t col) -> uint32_t { return lanes[8 * i + row]->row[col]; };
            lanes[lane]->results[i] = TRANSPOSED ? value(2 * t, g) | value(2 * t + 1, g) << 16
                                                 : value(g, 2 * t) | value(g, 2 * t + 1) << 16;
        }
    }
}

template <uint32_t COUNT, bool TRANSPOSED> static void ldmatrix(uint32_t* results, const void* row)
{
    if (here->thread % LANES < 8 * COUNT && reinterpret_cast<uintptr_t>(row) % 16 != 0)
        fail("a row for ldmatrix does not begin at a multiple of 16 bytes");
    Matrices mine = {results, static_cast<const uint16_t*>(row)};
    together(load_all<COUNT, TRANSPOSED>, &mine);
}

static void copy_async(void* to, const void* from, bool valid)
{
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16 != 0)
        fail("an asynchronous copy does not begin at a multiple of 16 bytes");
    std::memset(to, 0xff, 16);
    Thread& thread = here->all[here->thread];
    thread.copies.push_back({to, from, valid, thread.groups});
}

static void copy_async_commit()
{
    here->all[here->thread].groups++;
}

// Does the copies of all groups but the last so many.
static void copy_async_wait(uint32_t pending)
{
    Thread& thread = here->all[here->thread];
    auto arrives = [&](const Copy& copy) { return copy.group + pending < thread.groups; };
    for (const Copy& copy : thread.copies) {
        if (!arrives(copy))
            continue;
        if (copy.valid)
            std::memcpy(copy.to, copy.from, 16);
        else
            std::memset(copy.to, 0, 16);
        arrival_at(copy.to) = {here->thread, thread.fences};
    }
    auto kept = std::remove_if(thread.copies.begin(), thread.copies.end(), arrives);
    thread.copies.erase(kept, thread.copies.end());
}

}  // namespace emulator
