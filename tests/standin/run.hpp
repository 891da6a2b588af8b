// Runs one kernel launch on the CPU: one fiber a CUDA thread, one block at a time.
//
// Threads run one after another, each until it waits at a barrier or shuffle. So a missing barrier
// shows at once: the first thread reads shared memory that the others have not written, and that
// memory was poisoned (NaN) before the block. STANDIN_ORDER says who runs first: `forward`,
// `reverse` or `random`. With STANDIN_SAMPLE=1 only the middle block of a grid runs.
#pragma once
#define STANDIN_HOST
#include "accesses.hpp"
#include "blocks.hpp"
#include "cuda_on_cpu.hpp"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <sys/mman.h>
#include <vector>
#include <algorithm>

#if defined(__x86_64__)
// Saves the callee's registers and the stack pointer, and goes on where `to` was saved.
extern "C" void standin_switch(void** save, void* to);
asm(R"(
.text
.type standin_switch, @function
standin_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
#else
#error "the stand-in's fibers are written for x86-64"
#endif

namespace standin {

enum class State { Ready, Barrier, Shuffle, Done };

struct Fiber {
    void* stack_pointer;
    char* stack;
    State state;
    uint32_t value;      // what this lane gives to a shuffle
    unsigned from;       // the lane it asks
};

constexpr size_t STACK_BYTES = 64 << 10;

/// All that runs one block. There is one, used under the driver's lock.
struct Machine {
    Runtime runtime{};
    std::vector<Fiber> fibers;
    void* scheduler = nullptr;
    unsigned current = 0, count = 0;
    const Kernel* kernel = nullptr;
    void* const* parameters = nullptr;
    std::mt19937 random{1};
    sigjmp_buf escape;       // where a fault inside a kernel comes out
    Accesses accesses;
    char *shared = nullptr, *shared_end = nullptr;
    Blocks blocks;
    bool races = false;      // accesses are checked, not counted
    Memory* memory = nullptr;
    bool inside = false;     // a kernel runs: faults are its own
};
inline Machine machine;

inline void wait_as(State state) {
    Fiber& fiber = machine.fibers[machine.current];
    fiber.state = state;
    standin_switch(&fiber.stack_pointer, machine.scheduler);
}

inline void fiber_main() {
    machine.kernel->call(machine.kernel->function, machine.parameters);
    wait_as(State::Done);
    abort();  // a finished fiber is never resumed
}

inline uint32_t shuffle_values(uint32_t value, unsigned from) {
    Fiber& fiber = machine.fibers[machine.current];
    unsigned warp = machine.current / 32 * 32;
    fiber.value = value;
    wait_as(State::Shuffle);  // until every lane has given its value ...
    if (warp + from >= machine.count) return value;
    uint32_t result = machine.fibers[warp + from].value;
    wait_as(State::Shuffle);  // ... and every lane has taken one
    return result;
}

/// Called by kernels that are compiled for it; the rest (stack, constants) is no access.
inline void on_access(const void* address, unsigned size, const void* place, bool write) {
    const char* p = static_cast<const char*>(address);
    const char* stack = machine.fibers[machine.current].stack;
    if (p >= stack && p < stack + STACK_BYTES) return;
    if (machine.races) {
        Blocks& blocks = machine.blocks;
        Cells* of = blocks.find(*machine.memory, p, reinterpret_cast<uintptr_t>(place));
        if (of) blocks.access(*of, p, size, blocks.stamp(machine.current), write);
        return;
    }
    bool shared = p >= machine.shared && p < machine.shared_end;
    if (shared || machine.memory->near(p)) {
        machine.accesses.add(machine.current, reinterpret_cast<uintptr_t>(p), size, shared,
                             reinterpret_cast<uintptr_t>(place));
    }
}

/// An asynchronous copy into shared memory begins: from now on until its thread waits for it.
inline void on_copy(void* to, unsigned size, bool begins) {
    if (!machine.races) return;
    Blocks& blocks = machine.blocks;
    if (!begins) return blocks.arrive(static_cast<char*>(to), size);
    Cells* of = blocks.find(*machine.memory, static_cast<char*>(to), 0);
    Stamp now = blocks.stamp(machine.current);
    now.flying = true;
    if (of) blocks.access(*of, static_cast<char*>(to), size, now, true);
}

inline std::string place() {
    const Runtime& r = machine.runtime;
    char text[256];
    snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)",
             machine.kernel->name, r.block.x, r.block.y, r.block.z, r.thread.x, r.thread.y,
             r.thread.z);
    return text;
}

inline void reset_fiber(Fiber& fiber) {
    if (!fiber.stack) {
        fiber.stack = static_cast<char*>(mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    }
    // As if fiber_main had been called: six saved registers, the return address, an aligned frame.
    void** top = reinterpret_cast<void**>(fiber.stack + STACK_BYTES) - 2;
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(fiber_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.stack_pointer = top;
    fiber.state = State::Ready;
}

/// Lets every thread that can run do so until it waits; `order` says who is first.
inline void run_ready(const std::vector<unsigned>& order) {
    Runtime& r = machine.runtime;
    for (unsigned t : order) {
        if (machine.fibers[t].state != State::Ready) continue;
        machine.current = t;
        r.thread = {t % r.threads.x, t / r.threads.x % r.threads.y,
                    t / r.threads.x / r.threads.y};
        standin_switch(&machine.scheduler, machine.fibers[t].stack_pointer);
    }
}

/// Wakes the waiting threads whose barrier or shuffle is complete; "" or what is wrong.
inline std::string release(bool* finished) {
    unsigned barrier = 0, done = 0, released = 0;
    for (unsigned t = 0; t < machine.count; t++) {
        barrier += machine.fibers[t].state == State::Barrier;
        done += machine.fibers[t].state == State::Done;
    }
    *finished = done == machine.count;
    if (barrier == machine.count) {
        for (unsigned t = 0; t < machine.count; t++) machine.fibers[t].state = State::Ready;
        machine.blocks.barrier();
        released = barrier;
    }
    for (unsigned warp = 0; warp < machine.count; warp += 32) {
        unsigned end = std::min(warp + 32, machine.count), waiting = 0;
        for (unsigned t = warp; t < end; t++) {
            waiting += machine.fibers[t].state == State::Shuffle;
        }
        if (waiting != end - warp) continue;
        for (unsigned t = warp; t < end; t++) machine.fibers[t].state = State::Ready;
        machine.blocks.warp_epochs[warp / 32]++;
        released += waiting;
    }
    if (*finished || released) return "";
    return std::string("a barrier or shuffle is not reached by all threads: ") +
           std::to_string(barrier) + " of " + std::to_string(machine.count) +
           " wait at a barrier, " + std::to_string(done) + " have ended";
}

inline std::string run_block(const std::string& order_name) {
    std::vector<unsigned> order(machine.count);
    for (unsigned t = 0; t < machine.count; t++) {
        order[t] = order_name == "reverse" ? machine.count - 1 - t : t;
        reset_fiber(machine.fibers[t]);
    }
    for (bool finished = false; !finished;) {
        if (order_name == "random") std::shuffle(order.begin(), order.end(), machine.random);
        run_ready(order);
        std::string wrong = release(&finished);
        if (!wrong.empty()) return wrong;
    }
    return "";
}

/// Runs the whole grid; "" or a sentence about what went wrong. `shared` is what to poison.
inline std::string run_grid(const Kernel& kernel, void* const* parameters, dim3 blocks,
                            dim3 threads, char* shared, char* shared_end) {
    const char* order = getenv("STANDIN_ORDER");
    machine.runtime.blocks = blocks;
    machine.runtime.threads = threads;
    machine.runtime.barrier = [] { wait_as(State::Barrier); };
    machine.runtime.shuffle = shuffle_values;
    machine.runtime.access = on_access;
    machine.runtime.copy = on_copy;
    machine.shared = shared, machine.shared_end = shared_end;
    const char* sample = getenv("STANDIN_SAMPLE");
    machine.kernel = &kernel;
    machine.parameters = parameters;
    machine.count = threads.x * threads.y * threads.z;
    if (machine.fibers.size() < machine.count) machine.fibers.resize(machine.count);
    machine.blocks.begin_launch(shared, shared_end);
    for (unsigned z = 0; z < blocks.z; z++)
        for (unsigned y = 0; y < blocks.y; y++)
            for (unsigned x = 0; x < blocks.x; x++) {
                bool middle = x == blocks.x / 2 && y == blocks.y / 2 && z == blocks.z / 2;
                if (sample && !middle) continue;
                machine.runtime.block = {x, y, z};
                memset(shared, 0xff, shared_end - shared);
                machine.blocks.begin_block();
                std::string wrong = run_block(order ? order : "forward");
                if (wrong.empty()) wrong = machine.blocks.wrong;
                if (!wrong.empty()) return place() + ": " + wrong;
                machine.accesses.finish_block();
            }
    return "";
}

}  // namespace standin
