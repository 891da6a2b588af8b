// The stand-in for libcuda.so.1: what the stand-in for NCCL (nccl.cpp) asks of it, since both run
// work on the same streams.
#include "driver.hpp"

using namespace standin;

/// Queues `run(context, p)`, which reads `bytes` at `p` on the device of `handle`, or writes them.
/// `position`: how far the stream's work is once that is done.
extern "C" int standin_queue(void* handle, const char* name, char* p, size_t bytes, bool write,
                             int (*run)(void*, char*), void* context, uint64_t* position) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    int device = stream->device;
    if (!current || current->device != device)
        return report("a sum is queued by a thread whose context is of another device",
                      INVALID_CONTEXT);
    if (capture) return report("a sum is queued by a thread that captures", CAPTURE_UNSUPPORTED);
    int result = enqueue(handle, name, {reinterpret_cast<uint64_t>(p)}, [=] {
        std::string wrong = memory.check(p, bytes, device);
        if (!wrong.empty()) return report(wrong), int(INVALID_VALUE);
        if (int raced = access(p, bytes, write)) return raced;
        memory.open(device);
        return run(context, p);
    });
    *position = stream->queued();
    return result;
}

/// Runs the stream's work up to a position; called by work that runs.
extern "C" int standin_force(void* handle, uint64_t position) {
    return force(static_cast<Stream*>(handle), position);
}

/// Writes to a device's memory; called by work that runs.
extern "C" void standin_write(char* p, const void* from, size_t bytes, void* handle) {
    memory.open(static_cast<Stream*>(handle)->device);
    memcpy(p, from, bytes);
}

/// Calls `f(context)` while nobody else calls the driver.
extern "C" int standin_alone(int (*f)(void*), void* context) {
    Guard guard(lock);
    return f(context);
}
