// The stand-in for libcuda.so.1: memory of devices and of the host, and copies between them.
#include "driver.hpp"

using namespace standin;

namespace {

/// Copies between any two places, either of them on a device (or -1: the host).
int copy(char* to, int to_device, const char* from, int from_device, size_t bytes) {
    std::string wrong;
    if (to_device >= 0) wrong += memory.check(to, bytes, to_device);
    if (from_device >= 0) wrong += memory.check(from, bytes, from_device);
    if (!wrong.empty()) return report(wrong), int(INVALID_VALUE);
    if (int raced = access(from, bytes, false)) return raced;
    if (int raced = access(to, bytes, true)) return raced;
    std::vector<char> staged(bytes);
    if (from_device >= 0) memory.open(from_device);
    memcpy(staged.data(), from, bytes);
    if (to_device >= 0) memory.open(to_device);
    memcpy(to, staged.data(), bytes);
    return SUCCESS;
}

int copy_on_device(void* handle, uint64_t to, int to_device, uint64_t from, int from_device,
                   size_t bytes) {
    bool peer = to_device != from_device;
    int own = stream_of(handle)->device, other = to_device == own ? from_device : to_device;
    // A driver would take the slow way through the host, and say nothing.
    if (peer && !context_of(own).reaches[other])
        return report("a copy on device " + std::to_string(own) + " needs access to device " +
                      std::to_string(other) + ", which is not enabled", PEER_NOT_ENABLED);
    const char* name = peer ? "a copy between devices" : "a copy on its device";
    return enqueue(handle, name, {to, from}, [=] {
        (peer ? counters.peer_copies : counters.local_copies)++;
        (peer ? counters.peer_bytes : counters.local_bytes) += bytes;
        return copy(pointer(to), to_device, pointer(from), from_device, bytes);
    }, bytes);
}

/// "" or what other devices have queued that still needs this buffer: the driver waits for the own
/// device alone.
std::string still_queued(const Buffer& buffer) {
    for (int d = 0; d < devices(); d++) {
        for (Stream* stream : context_of(d).streams) {
            for (const Queued& work : stream->queue) {
                for (uint64_t address : work.addresses) {
                    char* p = pointer(address);
                    if (p >= buffer.begin && p < buffer.end())
                        return "a buffer of " + std::to_string(buffer.bytes) +
                               " bytes is given back that device " + std::to_string(d) +
                               " still has to use";
                }
            }
        }
    }
    return "";
}

/// The numbers of a context's streams, for races.hpp.
std::vector<uint32_t> numbers(const Context& context) {
    std::vector<uint32_t> all{context.standard.number};
    for (Stream* stream : context.streams) all.push_back(stream->number);
    return all;
}

}  // namespace

API cuMemGetInfo_v2(size_t* free, size_t* total) {
    Guard guard(lock);
    *total = device_memory();
    *free = *total - memory.used[current->device];
    return SUCCESS;
}
API cuMemAlloc_v2(uint64_t* out, size_t bytes) {
    Guard guard(lock);
    if (!current) return INVALID_CONTEXT;
    if (bytes == 0) return INVALID_VALUE;
    if (memory.used[current->device] + Memory::taken(bytes) > device_memory())
        return OUT_OF_MEMORY;
    char* p = memory.take(current->device, bytes);
    *out = reinterpret_cast<uint64_t>(p);
    return p ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFree_v2(uint64_t p) {
    Guard guard(lock);
    force_all(*current);
    std::string wrong;
    if (auto found = memory.buffers.find(pointer(p)); found != memory.buffers.end()) {
        wrong = still_queued(found->second);
        std::string raced = races.give_back(found->second, numbers(*current));
        if (wrong.empty()) wrong = raced;
    }
    std::string behind = memory.give_back(pointer(p));
    forget_cells(pointer(p));
    if (wrong.empty()) wrong = behind;
    if (wrong.empty()) return SUCCESS;
    report(wrong);
    return current->error = ILLEGAL_ADDRESS;
}
API cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(*out, 0xff, bytes);
    return SUCCESS;
}
API cuMemFreeHost(void* p) {
    Guard guard(lock);
    for (int d = 0; d < devices(); d++) force_all(context_of(d));
    return free(p), SUCCESS;
}
API cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    Guard guard(lock);
    int device = current->device;
    return enqueue(stream, "a filling with bytes", {to}, [=] {
        std::string wrong = memory.check(pointer(to), bytes, device);
        if (!wrong.empty()) return report(wrong), int(INVALID_VALUE);
        if (int raced = access(pointer(to), bytes, true)) return raced;
        memory.open(device);
        return memset(pointer(to), value, bytes), int(SUCCESS);
    }, bytes);
}
API cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    Guard guard(lock);
    int device = current->device;
    std::string wrong;
    auto source = races.source(from, bytes, &wrong);
    if (!wrong.empty()) return current->error = report(wrong, LAUNCH_FAILED);
    return enqueue(stream, "a copy to the device", {to}, [=] {
        if (int raced = report(races.read_source(*source, running), LAUNCH_FAILED)) return raced;
        counters.uploads++;
        counters.upload_bytes += bytes;
        return copy(pointer(to), device, static_cast<const char*>(from), -1, bytes);
    }, bytes);
}
API cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    Guard guard(lock);
    int device = current->device;
    return enqueue(stream, "a copy to the host", {from}, [=] {
        counters.downloads++;
        counters.download_bytes += bytes;
        return copy(static_cast<char*>(to), -1, pointer(from), device, bytes);
    }, bytes);
}
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    Guard guard(lock);
    return copy_on_device(stream, to, current->device, from, current->device, bytes);
}
API cuMemcpyPeerAsync(uint64_t to, Context* to_context, uint64_t from, Context* from_context,
                      size_t bytes, void* stream) {
    Guard guard(lock);
    return copy_on_device(stream, to, to_context->device, from, from_context->device, bytes);
}
